//! Hears at once when a missing folder appears.
//!
//! Dovecot's master makes base_dir/login and right after it starts login processes, which try the director's socket at
//! once, and after a failure only when their next client comes. To look every now and then would be too late for most of
//! them; the kernel can tell (inotify). Where it cannot, looking often must do.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

/// Folders whose appearance is waited for.
#[derive(Debug)]
pub(super) struct FolderWatch {
    descriptor: Option<Rc<OwnedFd>>,
}

impl FolderWatch {
    pub(super) fn new() -> Self {
        Self { descriptor: system::init().map(Rc::new) }
    }

    /// Becomes readable when a folder that is waited for may have appeared.
    pub(super) fn descriptor(&self) -> Option<&Rc<OwnedFd>> {
        self.descriptor.as_ref()
    }

    /// Forgets what has been told so far.
    pub(super) fn drain(&self) {
        let Some(descriptor) = &self.descriptor else { return };
        let mut events = [0; 4096];
        while rustix::io::read(&**descriptor, &mut events).is_ok_and(|count| count > 0) {}
    }

    /// Waits for a folder. Returns whether it is there by now.
    pub(super) fn wait_for(&self, folder: &Path) -> bool {
        let Some(descriptor) = &self.descriptor else { return false };
        loop {
            if folder.is_dir() {
                return true;
            }
            // Its parent may be missing too: the next folder to appear is below the nearest that is there.
            let Some(nearest) = folder.ancestors().find(|ancestor| ancestor.is_dir()) else { return false };
            if !system::watch(descriptor, nearest) {
                return false;
            }
            // What appeared before the watch began was not told.
            if folder.ancestors().find(|ancestor| ancestor.is_dir()) == Some(nearest) {
                return false;
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    pub(super) fn init() -> Option<OwnedFd> {
        inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()
    }

    pub(super) fn watch(descriptor: &OwnedFd, folder: &Path) -> bool {
        // Told once; whoever still waits then asks again.
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR | WatchFlags::ONESHOT;
        inotify::add_watch(descriptor, folder, flags).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::os::fd::OwnedFd;
    use std::path::Path;

    pub(super) fn init() -> Option<OwnedFd> {
        None
    }

    pub(super) fn watch(_: &OwnedFd, _: &Path) -> bool {
        false
    }
}
