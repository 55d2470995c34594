//! A pipe's overflow on disk: a file without a name, first in, first out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Space that was read is given back to the disk in steps of so many bytes.
const PUNCH_BYTES: u64 = 16 << 20;

pub struct Spill {
    file: File,
    read: u64,
    written: u64,
    punched: u64,
}

impl Spill {
    /// Makes a file that is gone with this process, however that ends.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(folder)?;
        Ok(Self { file, read: 0, written: 0, punched: 0 })
    }

    /// Bytes that wait in it.
    pub fn bytes(&self) -> u64 {
        self.written - self.read
    }

    /// Appends; on an error nothing of it counts.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Takes the next bytes, at most `most`, in place of what `into` holds.
    pub fn take(&mut self, into: &mut Vec<u8>, most: usize) -> io::Result<()> {
        into.resize(usize::try_from(self.bytes()).unwrap_or(most).min(most), 0);
        self.file.read_exact_at(into, self.read)?;
        self.read += into.len() as u64;
        if self.read == self.written {
            self.file.set_len(0)?;
            (self.read, self.written, self.punched) = (0, 0, 0);
        } else if self.read - self.punched >= PUNCH_BYTES {
            let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            // A file system that cannot do this keeps the space until all is read.
            let _ = rustix::fs::fallocate(&self.file, hole, self.punched, self.read - self.punched);
            self.punched = self.read;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_in_order_and_the_space_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(folder.path()).unwrap();
        let mut taken = Vec::new();
        for round in 0..3u8 {
            spill.put(&[round; 100]).unwrap();
            spill.put(&[round + 10; 50]).unwrap();
            spill.take(&mut taken, 120).unwrap();
            assert_eq!((taken[99], taken[100], taken.len(), spill.bytes()), (round, round + 10, 120, 30));
            spill.take(&mut taken, 120).unwrap();
            assert_eq!((taken.len(), spill.bytes(), spill.file.metadata().unwrap().len()), (30, 0, 0));
        }
        assert!(Spill::new(Path::new("/nowhere")).is_err());
    }
}
