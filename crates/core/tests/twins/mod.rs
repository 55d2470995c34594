//! What property tests and fuzz targets share.

pub mod frames;
pub mod handshake;

/// Gives each input of a fuzz target's corpus to its body.
pub fn inputs(target: &str, body: impl Fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        body(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}
