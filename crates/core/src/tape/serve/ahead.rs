//! A whole tape rendered before anybody comes for it, so that sending it costs no more than handing its pages to the socket.
//!
//! It lies in memory without a name, as large as the tape. What a client says meanwhile waits until it has all of it.

use super::client::{append_frame, Rendered};
use super::Shared;
use rustix::fs::{memfd_create, sendfile, MemfdFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Most memory that a rendered tape may take.
const BYTES_MOST: u64 = 8 << 30;
/// What is written and sent at once.
const PIECE_BYTES: usize = 256 << 10;

pub(super) struct Ahead {
    file: File,
    bytes: usize,
    /// Each frame, with its end in the file.
    frames: Vec<Rendered>,
}

impl Ahead {
    /// Renders all that `shared` has. Gives a sentence that says what is wrong.
    pub(super) fn new(shared: &Shared) -> Result<Self, String> {
        let wrong = |error: io::Error| format!("no memory for a tape that is rendered ahead: {error}");
        let file = memfd_create("tickplant-tape", MemfdFlags::CLOEXEC).map_err(|error| wrong(error.into()))?;
        let (mut file, mut frames) = (File::from(file), Vec::new());
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        let (mut next, mut done) = (0, 0);
        while next < shared.end {
            let (end, _) = shared.frame(next);
            let mut frame = append_frame(&shared.source, next..end, None, &mut out, &mut ends);
            frame.end += done;
            frames.push(frame);
            next = end;
            if out.len() >= PIECE_BYTES || next >= shared.end {
                file.write_all(&out).map_err(wrong)?;
                done += out.len();
                out.clear();
            }
            if done as u64 > BYTES_MOST {
                return Err(format!("a tape that is rendered ahead may take {BYTES_MOST} bytes: give fewer --trades"));
            }
        }
        Ok(Self { file, bytes: done, frames })
    }

    /// Sends everything, or what can be sent until `stop`; whether that was all. `wait` waits for room, `credit` takes each frame
    /// that went out whole.
    pub(super) fn send(
        &self,
        socket: &TcpStream,
        stop: &AtomicBool,
        wait: impl Fn() -> io::Result<()>,
        mut credit: impl FnMut(&Rendered),
    ) -> io::Result<bool> {
        let (mut sent, mut frames) = (0, self.frames.iter().peekable());
        while (sent as usize) < self.bytes && !stop.load(Relaxed) {
            match sendfile(socket, &self.file, Some(&mut sent), PIECE_BYTES) {
                Ok(_) => {
                    while let Some(frame) = frames.next_if(|frame| frame.end <= sent as usize) {
                        credit(frame);
                    }
                }
                Err(Errno::AGAIN) => wait()?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent as usize == self.bytes)
    }
}
