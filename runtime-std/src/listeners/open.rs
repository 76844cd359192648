//! How a listening socket or FIFO gets its place in the file system.
//!
//! Each is made under a name nobody knows, given its mode and owner, and only then renamed: at no moment can anybody
//! use it who may not, and a stale file of a director that was killed is replaced without a gap.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Endpoint, own_user};
use crate::configuration::Access;
use crate::exit::Exit;

/// Connections that may wait to be accepted, if the system (`net.core.somaxconn`) allows as many: after a restart all
/// login processes come at once.
const BACKLOG: i32 = 4096;

/// Folders that we make, such as login/ext: login processes must get through.
const FOLDER_MODE: u32 = 0o755;

/// Why a listener cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Something that will come by itself when Dovecot starts.
    Wait {
        /// The folder that is not there.
        missing: PathBuf,
        reason: String,
    },
    /// Another process listens there.
    Taken(String),
    /// This machine has no such address, or no such family.
    NoAddress(String),
    /// Anything else.
    Refused(Exit, String),
}

/// Which file a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileId {
    /// The file at a path; of a symbolic link, the link.
    pub(crate) fn look(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The file at a path, if there is one that can be seen.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Self::look(path).ok()
    }
}

/// Opens a listener, and makes the folders for it that are ours to make. Of a file, its id comes with it.
pub(crate) fn endpoint(
    base_dir: &Path,
    endpoint: &Endpoint,
    access: Access,
) -> Result<(OwnedFd, Option<FileId>), Problem> {
    match endpoint {
        Endpoint::Unix(path) => {
            make_folder(base_dir, path)?;
            unix(path, access).map(|(descriptor, file)| (descriptor, Some(file)))
        }
        Endpoint::Fifo(path) => {
            make_folder(base_dir, path)?;
            fifo(path, access).map(|(descriptor, file)| (descriptor, Some(file)))
        }
        Endpoint::Tcp { address, .. } => tcp(*address).map(|descriptor| (descriptor, None)),
    }
}

/// Removes a listener's file, if it is still this one.
pub(crate) fn remove(path: &Path, file: FileId) -> io::Result<()> {
    if FileId::of(path) == Some(file) { fs::remove_file(path) } else { Ok(()) }
}

/// Makes the folder of a socket, if it is ours to make: one below base_dir (as login/ext), once what Dovecot makes
/// (base_dir, login) is there. Dovecot gives those modes and owners that we do not know.
pub(super) fn make_folder(base_dir: &Path, path: &Path) -> Result<(), Problem> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.is_dir() {
        return Ok(());
    }
    let Ok(below) = folder.strip_prefix(base_dir) else {
        let reason = format!("waiting for the folder {}: create it", folder.display());
        return Err(Problem::Wait { missing: folder.to_owned(), reason });
    };
    let login = base_dir.join("login");
    for dovecots in [base_dir, &login] {
        if folder.starts_with(dovecots) && !dovecots.is_dir() {
            let reason = format!("waiting for {}, which Dovecot makes when it starts", dovecots.display());
            return Err(Problem::Wait { missing: dovecots.to_owned(), reason });
        }
    }
    let mut folder = base_dir.to_owned();
    for component in below.components() {
        folder.push(component);
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(&folder) {
            // The umask may have taken something away.
            Ok(()) => fs::set_permissions(&folder, fs::Permissions::from_mode(FOLDER_MODE))
                .map_err(|error| refused("set the mode of", &folder, &error))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(refused("make the folder", &folder, &error)),
        }
    }
    Ok(())
}

/// Opens a listening unix socket.
pub(super) fn unix(path: &Path, access: Access) -> Result<(OwnedFd, FileId), Problem> {
    match kind_of(path)? {
        Kind::Nothing => {}
        Kind::Socket => refuse_living(path)?,
        Kind::Fifo | Kind::Other => return Err(in_the_way(path, "a socket")),
    }
    let socket = stream_socket(AddressFamily::UNIX).map_err(|error| refused("make", path, &error.into()))?;
    let hidden = Hidden::beside(path);
    SocketAddrUnix::new(&hidden.0)
        .and_then(|address| rustix::net::bind(&socket, &address))
        .map_err(|error| refused("make", path, &error.into()))?;
    // Nobody can connect before listen().
    set_access(&hidden.0, access).map_err(|error| refused("set mode and owner of", path, &error))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|error| refused("listen on", path, &error.into()))?;
    let file = FileId::of(&hidden.0);
    fs::rename(&hidden.0, path).map_err(|error| refused("make", path, &error))?;
    // Gone between two calls: it will be found missing, and made again.
    let file = file.or_else(|| FileId::of(path)).unwrap_or(FileId { device: 0, inode: 0 });
    Ok((socket, file))
}

/// Opens a FIFO for reading and writing, so that it does not end when its writers go (login, notify). One that is there
/// and that nobody reads is taken over, with the writers that have it open.
pub(super) fn fifo(path: &Path, access: Access) -> Result<(OwnedFd, FileId), Problem> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| refused("open", path, &error.into()))
    };
    match kind_of(path)? {
        Kind::Fifo => {
            // Opening for writing fails just when nobody reads.
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(_) => return Err(Problem::Taken(taken(path))),
                Err(Errno::NXIO) => {
                    set_access(path, access).map_err(|error| refused("set mode and owner of", path, &error))?;
                    let fifo = open(path)?;
                    let stat = rustix::fs::fstat(&fifo).map_err(|error| refused("open", path, &error.into()))?;
                    return Ok((fifo, FileId { device: stat.st_dev, inode: stat.st_ino }));
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(refused("open", path, &error.into())),
            }
        }
        Kind::Nothing => {}
        Kind::Socket => refuse_living(path)?,
        Kind::Other => return Err(in_the_way(path, "a FIFO")),
    }
    let hidden = Hidden::beside(path);
    rustix::fs::mknodat(CWD, &hidden.0, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .map_err(|error| refused("make", path, &error.into()))?;
    // Opened by name before it has its place, for the mode may forbid it to ourselves.
    let fifo = open(&hidden.0)?;
    set_access(&hidden.0, access).map_err(|error| refused("set mode and owner of", path, &error))?;
    let stat = rustix::fs::fstat(&fifo).map_err(|error| refused("make", path, &error.into()))?;
    fs::rename(&hidden.0, path).map_err(|error| refused("make", path, &error))?;
    Ok((fifo, FileId { device: stat.st_dev, inode: stat.st_ino }))
}

/// Opens a listening TCP socket.
pub(super) fn tcp(address: SocketAddr) -> Result<OwnedFd, Problem> {
    let listen = || -> Result<OwnedFd, Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = stream_socket(family)?;
        // Connections of a director that has just ended must not keep the next one from starting.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    listen().map_err(|error| match error {
        Errno::ADDRINUSE => Problem::Taken(taken(Path::new(&address.to_string()))),
        Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => {
            Problem::NoAddress(format!("cannot listen on {address}: this machine has no such address"))
        }
        Errno::ACCESS | Errno::PERM => {
            Problem::Refused(Exit::NoPermission, format!("cannot listen on {address}: {error}"))
        }
        _ => Problem::Refused(Exit::CannotCreate, format!("cannot listen on {address}: {error}")),
    })
}

/// Gives a socket file its mode and owner.
pub(crate) fn set_access(path: &Path, access: Access) -> io::Result<()> {
    if access.user.is_some() || access.group.is_some() {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Err(error) = rustix::fs::chownat(CWD, path, access.user, access.group, flags) {
            // Who is not root can only give it to himself: no fault if he already has it.
            let metadata = fs::symlink_metadata(path)?;
            let user = access.user.is_none_or(|user| user.as_raw() == metadata.uid());
            let group = access.group.is_none_or(|group| group.as_raw() == metadata.gid());
            if !(user && group) {
                return Err(error.into());
            }
        }
    }
    // After the owner: a change of owner may clear bits.
    fs::set_permissions(path, fs::Permissions::from_mode(access.mode & 0o777))
}

/// Whether a process listens on a unix socket. What cannot be told counts as alive: it is not ours to replace.
///
/// # Errors
/// The socket cannot even be tried: permission denied.
fn probe_is_alive(path: &Path) -> io::Result<bool> {
    let socket = stream_socket(AddressFamily::UNIX)?;
    let address = SocketAddrUnix::new(path)?;
    match rustix::net::connect(&socket, &address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error @ (Errno::ACCESS | Errno::PERM)) => Err(error.into()),
        // EAGAIN: its queue is full. EPROTOTYPE: not a stream socket, so not a director's, but somebody's.
        _ => Ok(true),
    }
}

fn refuse_living(path: &Path) -> Result<(), Problem> {
    match probe_is_alive(path) {
        Ok(true) => Err(Problem::Taken(taken(path))),
        Ok(false) => Ok(()),
        Err(error) => Err(refused("look at", path, &error)),
    }
}

/// A non-blocking stream socket.
fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

enum Kind {
    Nothing,
    Socket,
    Fifo,
    Other,
}

fn kind_of(path: &Path) -> Result<Kind, Problem> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(Kind::Socket),
        Ok(metadata) if metadata.file_type().is_fifo() => Ok(Kind::Fifo),
        Ok(_) => Ok(Kind::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kind::Nothing),
        Err(error) => Err(refused("look at", path, &error)),
    }
}

/// A name beside a path for what is not yet to be found; whatever is still there at the end is removed.
struct Hidden(PathBuf);

impl Hidden {
    fn beside(path: &Path) -> Self {
        // No longer than most names, because of the limit of a socket's path. One process makes one at a time.
        let hidden = path.with_file_name(format!(".d{}", std::process::id()));
        // Left by a killed process that had our id.
        let _ = fs::remove_file(&hidden);
        Self(hidden)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // After the rename there is nothing left.
        let _ = fs::remove_file(&self.0);
    }
}

fn taken(path: &Path) -> String {
    let director = format!("another process listens on {}: is a director running already?", path.display());
    match path.file_name() {
        // Dovecot 2.3 has this one built in.
        Some(name) if name == "director-admin" => format!(
            "{director} Or does Dovecot? Then put into dovecot.conf: service director {{ unix_listener director-admin \
             {{ mode = 0 }} }}, each on its own line"
        ),
        _ => format!("{director} Or does Dovecot, with a service director in dovecot.conf? Then remove that"),
    }
}

fn in_the_way(path: &Path, wanted: &str) -> Problem {
    Problem::Refused(Exit::CannotCreate, format!("{} is there and is not {wanted}: move it away", path.display()))
}

fn refused(what: &str, path: &Path, error: &io::Error) -> Problem {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let exit = if denied { Exit::NoPermission } else { Exit::CannotCreate };
    let hint = if denied && !own_user().is_root() { " (the director is not run by root)" } else { "" };
    Problem::Refused(exit, format!("cannot {what} {}: {error}{hint}", path.display()))
}
