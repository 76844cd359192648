//! What the daemon and the process that opens for it say to each other: messages of byte strings, and descriptors.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use director_core::settings::Files;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use crate::configuration::DiskFiles;
use crate::listeners::Endpoint;
use crate::listeners::open::FileId;

/// The longest message: more than the files of any configuration. It bounds what a broken peer can make us reserve.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A list of byte strings: on the line its length and then, for each, its length and itself; lengths are 32-bit
/// little-endian numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<Vec<u8>>);

impl Message {
    pub(super) fn new<const N: usize>(words: [&str; N]) -> Self {
        Self(words.map(|word| word.as_bytes().to_vec()).into())
    }

    pub(super) fn with(mut self, word: &str) -> Self {
        self.0.push(word.as_bytes().to_vec());
        self
    }

    pub(super) fn with_path(mut self, path: &Path) -> Self {
        self.0.push(path.as_os_str().as_bytes().to_vec());
        self
    }

    pub(super) fn with_file_id(self, file: Option<FileId>) -> Self {
        match file {
            Some(FileId { device, inode }) => self.with(&format!("{device} {inode}")),
            None => self.with(""),
        }
    }

    fn bytes(&self, at: usize) -> &[u8] {
        self.0.get(at).map_or(&[], Vec::as_slice)
    }

    /// A word; what is missing, or no text, is empty.
    pub(super) fn word(&self, at: usize) -> &str {
        std::str::from_utf8(self.bytes(at)).unwrap_or_default()
    }

    pub(super) fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(self.bytes(at)).into_owned()
    }

    pub(super) fn path(&self, at: usize) -> PathBuf {
        OsStr::from_bytes(self.bytes(at)).into()
    }

    pub(super) fn file_id(&self, at: usize) -> Option<FileId> {
        let (device, inode) = self.word(at).split_once(' ')?;
        Some(FileId { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }

    /// Sends it, with a descriptor if there is one.
    pub(super) fn send(&self, mut line: &UnixStream, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut bytes = vec![0; 4];
        for word in &self.0 {
            bytes.extend(length(word.len())?.to_le_bytes());
            bytes.extend(word);
        }
        let whole = length(bytes.len() - 4)?;
        bytes[..4].copy_from_slice(&whole.to_le_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(descriptor) = &descriptor {
            control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
        }
        // A signal interrupts these in spite of SA_RESTART, because the socket has a timeout (signal(7)).
        let sent =
            retry_on_intr(|| rustix::net::sendmsg(line, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
        line.write_all(&bytes[sent..])
    }

    /// Receives one, and the descriptor that came with it. `None`: the other side has gone.
    pub(super) fn receive(mut line: &UnixStream) -> io::Result<Option<(Self, Option<OwnedFd>)>> {
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            let mut room = [IoSliceMut::new(&mut length)];
            rustix::net::recvmsg(line.as_fd(), &mut room, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        if received.bytes == 0 {
            return Ok(None);
        }
        line.read_exact(&mut length[received.bytes..])?;
        let whole = u32::from_le_bytes(length) as usize;
        if whole > MESSAGE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        // Room is made for what comes, not for what is announced.
        if line.take(whole as u64).read_to_end(&mut bytes)? < whole {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut words = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((length, after)) = rest.split_first_chunk() {
            let Some((word, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            words.push(word.to_vec());
            rest = after;
        }
        Ok(Some((Self(words), descriptor)))
    }
}

#[cfg(test)]
impl From<Vec<Vec<u8>>> for Message {
    fn from(words: Vec<Vec<u8>>) -> Self {
        Self(words)
    }
}

fn length(bytes: usize) -> io::Result<u32> {
    let fits = u32::try_from(bytes).ok().filter(|_| bytes <= MESSAGE_BYTES_MAX);
    fits.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// What a listener is called on the line. Paths of listeners are text: they come from settings.
pub(super) fn endpoint(endpoint: &Endpoint) -> (&'static str, String) {
    match endpoint {
        Endpoint::Unix(path) => ("unix", path.to_string_lossy().into_owned()),
        Endpoint::Fifo(path) => ("fifo", path.to_string_lossy().into_owned()),
        Endpoint::Tcp { address, .. } => ("tcp", address.to_string()),
    }
}

/// Reads the files of this machine, and keeps what was asked and answered, in order.
#[derive(Default)]
pub(super) struct Recorder(Vec<Vec<u8>>);

impl Recorder {
    pub(super) fn finish(self) -> Message {
        Message(self.0)
    }
}

impl Files for Recorder {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let result = DiskFiles.read(path);
        let (word, answer) = match &result {
            Ok(content) => ("read", content.clone()),
            Err(reason) => ("unreadable", reason.clone().into_bytes()),
        };
        self.0.push(word.into());
        self.0.push(answer);
        result
    }

    fn glob(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let paths = DiskFiles.glob(pattern);
        self.0.push(b"found".to_vec());
        self.0.push(paths.len().to_string().into());
        self.0.extend(paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()));
        paths
    }
}

/// Answers as a [`Recorder`] heard it: whoever reads the same settings asks the same, in the same order.
pub(super) struct Recording(VecDeque<Vec<u8>>);

impl From<Message> for Recording {
    fn from(message: Message) -> Self {
        Self(message.0.into())
    }
}

impl Recording {
    fn next(&mut self) -> Vec<u8> {
        self.0.pop_front().unwrap_or_default()
    }
}

impl Files for Recording {
    fn read(&mut self, _: &Path) -> Result<Vec<u8>, String> {
        match (self.next().as_slice(), self.next()) {
            (b"read", content) => Ok(content),
            (b"unreadable", reason) => Err(String::from_utf8_lossy(&reason).into_owned()),
            _ => Err("it was not read".into()),
        }
    }

    fn glob(&mut self, _: &Path) -> Vec<PathBuf> {
        if self.next() != b"found" {
            return Vec::new();
        }
        let count = String::from_utf8(self.next()).ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
        (0..count.min(self.0.len())).map(|_| PathBuf::from(OsStr::from_bytes(&self.next()))).collect()
    }
}
