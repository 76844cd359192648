//! The FIFO by which login processes say that a user is still here.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::lines::ANSWER_LIMIT;
use crate::wait::wait_for;

/// The writing end.
#[derive(Debug)]
pub struct Notify {
    fifo: File,
}

impl Notify {
    /// Opens it.
    ///
    /// # Errors
    /// The system's; `ENXIO` when nobody reads it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("small flags");
        Ok(Self { fifo: OpenOptions::new().write(true).custom_flags(flags).open(path)? })
    }

    /// Writes all of this, as the reader takes it.
    ///
    /// # Panics
    /// If the reader does not take it.
    pub fn send(&mut self, mut bytes: &[u8]) {
        wait_for("somebody to read the FIFO", ANSWER_LIMIT, || {
            while !bytes.is_empty() {
                match self.fifo.write(bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(format!("{} bytes wait: {error}", bytes.len())),
                }
            }
            Ok(())
        });
    }
}
