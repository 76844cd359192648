//! How a daemon that root started stops being root.

use std::path::Path;

use director_core::settings::Settings;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use crate::configuration::{Identity, identity_of};
use crate::exit::{Exit, Failure};
use crate::opener::Opener;

/// Leaves a process behind that opens files as root, and becomes the user of `service director`: with that one's group and
/// `extra_groups`, and without any capability. To be called before the first thread. Without root, or where the settings
/// say to stay root, everything stays as it is.
///
/// # Errors
/// There is no such user, or the system refused it.
pub fn give_up(settings: &Settings, file: &Path) -> Result<Opener, Failure> {
    let Some(Identity { user, group, extra_groups }) = identity_of(settings, file)? else {
        return Ok(Opener::default());
    };
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        Failure::new(Exit::System, format!("cannot {what}: {error}; user = root in service director does without"))
    };
    let opener = Opener::start(file).map_err(|error| refused("start the process that opens files", &error))?;
    let mut groups = vec![Gid::from_raw(group.as_raw())];
    groups.extend(extra_groups.iter().map(|group| Gid::from_raw(group.as_raw())));
    // libc's calls, which are for all threads of the process. Only root may do the first two, so the user comes last; with
    // root the kernel takes all capabilities away.
    setgroups(&groups)
        .and_then(|()| setgid(Gid::from_raw(group.as_raw())))
        .and_then(|()| setuid(Uid::from_raw(user.as_raw())))
        .map_err(|error| refused(&format!("become {}", settings.run_as.user), &error))?;
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(refused(&format!("stay {}", settings.run_as.user), &"this process can become root again"));
    }
    log::info!("runs as {} from here on", settings.run_as.user);
    Ok(opener)
}
