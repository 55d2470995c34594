//! The log from outside: what is appended is what is read, whatever is killed, cut or full.

mod common;
mod copies;
mod crash;
mod cuts;
mod disk;
mod follow;
