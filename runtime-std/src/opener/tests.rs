//! The daemon's end of the line and the other one, in one process: who may do what is a matter of real programs.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::thread;

use director_core::settings::Settings;
use quickcheck::quickcheck;

use super::server::Server;
use super::*;
use crate::listeners::owners;

/// A folder with settings, and a line to a server of them.
struct Site {
    folder: tempfile::TempDir,
    opener: Opener,
    server: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("login")).unwrap();
        let mut this = Self { folder, opener: Opener::default(), server: None };
        this.configure("");
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(&this.file());
        this.server = Some(thread::spawn(move || server.run(&theirs)));
        this.opener = Opener::over(ours);
        this
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("director.conf")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, more: &str) {
        let folder = self.folder.path().display();
        let text = format!(
            "base_dir = {folder}\nlog_path = {folder}/log\n!include_try {folder}/*.inc\nservice director {{\n\
             unix_listener login/ext/director {{\n mode = 0666\n}}\nfifo_listener login/proxy-notify {{\n mode = 0600\n}}\n\
             inet_listener {{\n address = 127.0.0.1\n port = 1\n}}\n{more}\n}}\n"
        );
        fs::write(self.file(), text).unwrap();
    }

    fn settings(&self) -> Result<Settings, SettingsError> {
        Settings::load(&self.file(), &mut *self.opener.files(&self.file())?)
    }

    fn endpoint(&self, end: &str) -> (Endpoint, Access) {
        let all = owners(&self.settings().unwrap(), self.folder.path()).unwrap();
        all.into_iter().find(|(endpoint, _)| endpoint.to_string().ends_with(end)).unwrap()
    }

    fn open(&self, endpoint: &Endpoint, access: Access) -> Result<(OwnedFd, Option<FileId>), Problem> {
        self.opener.open(self.folder.path(), endpoint, access)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.opener = Opener::default();
        // The line has ended, and the server with it.
        let result = self.server.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || result.is_none_or(|result| result.is_ok_and(|result| result.is_ok())));
    }
}

#[test]
fn a_listener_is_opened_identified_and_removed() {
    let site = Site::new();
    let (endpoint, access) = site.endpoint("login/ext/director");
    let (socket, file) = site.open(&endpoint, access).unwrap();
    let path = site.path("login/ext/director");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    assert_eq!(site.opener.identify(&endpoint), file);
    let mut client = UnixStream::connect(&path).unwrap();
    let (mut server, _) = {
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(false).unwrap();
        listener.accept().unwrap()
    };
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    site.opener.set_access(&endpoint, access).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    // Another file by this name is not ours.
    site.opener.remove(&endpoint, FileId { device: 0, inode: 0 }).unwrap();
    assert!(path.exists());
    site.opener.remove(&endpoint, file.unwrap()).unwrap();
    assert!(!path.exists());
    assert_eq!(site.opener.identify(&endpoint), None);
}

#[test]
fn a_fifo_is_opened_and_what_is_wrong_is_told() {
    let site = Site::new();
    let (fifo, access) = site.endpoint("proxy-notify");
    let (_descriptor, file) = site.open(&fifo, access).unwrap();
    assert_eq!(fs::metadata(site.path("login/proxy-notify")).unwrap().ino(), file.unwrap().inode);
    assert!(matches!(site.open(&fifo, access), Err(Problem::Taken(reason)) if reason.contains("proxy-notify")));

    let (endpoint, access) = site.endpoint("ext/director");
    fs::create_dir(site.path("login/ext")).unwrap();
    fs::write(site.path("login/ext/director"), "").unwrap();
    assert!(matches!(site.open(&endpoint, access), Err(Problem::Refused(Exit::CannotCreate, _))));
    fs::remove_dir_all(site.path("login")).unwrap();
    let expected = site.path("login");
    assert!(matches!(site.open(&endpoint, access), Err(Problem::Wait { missing, .. }) if missing == expected));
}

#[test]
fn only_what_the_settings_name_is_opened() {
    let site = Site::new();
    let (_, access) = site.endpoint("ext/director");
    let other = Endpoint::Unix(site.path("login/other"));
    assert!(matches!(site.open(&other, access), Err(Problem::Refused(Exit::NoPermission, _))));
    // The right path as the wrong kind is another thing, too.
    let other_kind = Endpoint::Fifo(site.path("login/ext/director"));
    assert!(matches!(site.open(&other_kind, access), Err(Problem::Refused(Exit::NoPermission, _))));
    fs::write(site.path("login/other"), "").unwrap();
    let file = FileId::look(&site.path("login/other")).unwrap();
    assert!(site.opener.remove(&other, file).unwrap_err().contains("the settings name no unix socket"));
    assert!(site.opener.set_access(&other, access).is_err());
    assert!(site.path("login/other").exists());
    assert_eq!(site.opener.open_log(&site.path("other")).unwrap_err().exit, Exit::NoPermission);
    assert!(!site.path("other").exists());
}

#[test]
fn settings_are_read_again_at_the_other_end() {
    let site = Site::new();
    let own = |site: &Site| Settings::load(&site.file(), &mut DiskFiles);
    assert_eq!(site.settings(), own(&site));
    let other = Endpoint::Unix(site.path("x-admin"));
    fs::write(site.path("b.inc"), "director_mail_servers = 10.0.0.1\n").unwrap();
    site.configure("unix_listener x-admin {\n}\n");
    let (_, access) = site.endpoint("x-admin");
    assert_eq!(site.settings(), own(&site));
    assert_eq!(site.settings().unwrap().mail_servers.len(), 1);
    site.open(&other, access).unwrap();
    // Errors have the same place, and leave the listeners that were there.
    site.configure("unix_listener y-admin {\n mode = x\n}\n");
    assert_eq!(site.settings(), own(&site));
    assert!(site.opener.identify(&other).is_some());
    fs::remove_file(site.file()).unwrap();
    assert_eq!(site.settings(), own(&site));
}

#[test]
fn logs_are_appended_to_and_links_not_followed() {
    let site = Site::new();
    let log = site.path("log");
    fs::write(&log, "a").unwrap();
    site.opener.open_log(&log).unwrap().write_all(b"b").unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), "ab");
    // Whoever may write to the folder could lead root to any other file.
    fs::rename(&log, site.path("secret")).unwrap();
    std::os::unix::fs::symlink(site.path("secret"), &log).unwrap();
    assert_eq!(site.opener.open_log(&log).unwrap_err().exit, Exit::CannotCreate);
}

#[test]
fn a_daemon_whose_opener_has_gone_is_told_so() {
    let site = Site::new();
    let (endpoint, access) = site.endpoint("ext/director");
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let opener = Opener::over(ours);
    for _ in 0..2 {
        assert!(matches!(opener.open(site.folder.path(), &endpoint, access), Err(Problem::Refused(Exit::System, _))));
    }
    assert!(opener.files(&site.file()).err().unwrap().message.contains("does not answer"));
}

quickcheck! {
    fn messages_survive_the_line(words: Vec<Vec<u8>>) -> bool {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let message = Message::from(words);
        let sent = message.clone();
        let sender = thread::spawn(move || sent.send(&ours, None));
        let received = Message::receive(&theirs).unwrap();
        sender.join().unwrap().unwrap();
        matches!(received, Some((received, None)) if received == message)
    }

    fn any_bytes_are_a_message_or_refused(bytes: Vec<u8>) -> bool {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&bytes).unwrap();
        drop(ours);
        while let Ok(Some(_)) = Message::receive(&theirs) {}
        true
    }
}
