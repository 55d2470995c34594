//! Proofs beside the chain and the checksum.

mod hashes;
mod shadow;
