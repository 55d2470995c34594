//! Proofs beside the chain and the checksum.

mod coverage;
mod hashes;
mod shadow;
mod ticker;
