//! Giving back the memory of what is done once, or seldom.

use std::ffi::c_void;
use std::fs;

use rustix::mm::{Advice, madvise};

/// Lets go of all code and constants of this process that are just as they are in files. What is needed again comes back by
/// itself, from the system's cache of the files; what parsed the command line and the settings does not. That is more than
/// half of an idle director-std.
pub(crate) fn give_back_files() {
    // Without /proc everything just stays where it is.
    for (start, length) in unchanged(&fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
        release(start, length);
    }
}

#[allow(unsafe_code)]
fn release(start: usize, length: usize) {
    let start = std::ptr::with_exposed_provenance_mut::<c_void>(start);
    // SAFETY: These are whole private mappings of files, which nobody can write to and no page of which has been written
    // before (relocations would show as anonymous memory): the memory cannot differ from the file, and to read it again
    // gives the same bytes. Whatever the system answers, nothing depends on it.
    let _ = unsafe { madvise(start, length, Advice::LinuxDontNeed) };
}

/// The mappings of `/proc/PID/smaps` that are the same as their files: where each starts, and its length.
fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    // Whether its pages that are in memory and in swap are known to be the file's; the lines come in this order.
    let mut candidate = None;
    for line in smaps.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields[..] {
            [range, permissions, _, _, _, file] if permissions.starts_with("r-") => {
                candidate = read_range(range).filter(|_| permissions.ends_with('p') && file.starts_with('/'));
            }
            // Another mapping, or one of a file that is gone.
            [range, _, _, _, _, ..] if range.contains('-') => candidate = None,
            ["Anonymous:", kib, _] if kib != "0" => candidate = None,
            ["Swap:", kib, _] => found.extend(candidate.take().filter(|_| kib == "0")),
            _ => {}
        }
    }
    found
}

/// `START-END`, as start and length.
fn read_range(range: &str) -> Option<(usize, usize)> {
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping with this many KiB of anonymous memory and in swap.
    fn mapping(line: &str, anonymous: u32, swap: u32) -> String {
        format!(
            "{line}\nRss: 12 kB\nAnonymous: {anonymous} kB\nAnonHugePages: 0 kB\nSwap: {swap} kB\nSwapPss: 0 kB\nVmFlags: rd mr\n"
        )
    }

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        let smaps = [
            mapping("555500000000-555500010000 r--p 00000000 fe:00 7   /usr/sbin/director-std", 0, 0),
            mapping("555500010000-555500090000 r-xp 00010000 fe:00 7   /usr/sbin/director-std", 0, 0),
            // Relocated, and a part of it perhaps swapped out.
            mapping("555500090000-555500091000 r--p 00090000 fe:00 7   /usr/sbin/director-std", 4, 0),
            mapping("555500091000-555500092000 r--p 00090000 fe:00 7   /usr/sbin/director-std", 0, 4),
            mapping("555500092000-555500093000 rw-p 00090000 fe:00 7   /usr/sbin/director-std", 0, 0),
            mapping("555500093000-555500094000 rwxp 00090000 fe:00 7   /usr/sbin/director-std", 0, 0),
            mapping("555500094000-555500095000 r--s 00090000 fe:00 7   /usr/sbin/director-std", 0, 0),
            // It has been upgraded meanwhile: still the same bytes, but it is left alone.
            mapping("555500095000-555500096000 r-xp 00010000 fe:00 7   /usr/sbin/director-std (deleted)", 0, 0),
            mapping("555500100000-555500200000 rw-p 00000000 00:00 0   [heap]", 0, 0),
            mapping("7fff00000000-7fff00001000 r-xp 00000000 00:00 0   [vdso]", 0, 0),
            mapping("7fff00002000-7fff00003000 r-xp 00000000 00:00 0", 0, 0),
            "nonsense\n".into(),
        ]
        .concat();
        assert_eq!(unchanged(&smaps), [(0x5555_0000_0000, 0x1_0000), (0x5555_0001_0000, 0x8_0000)]);
        // A system that does not tell everything.
        assert_eq!(unchanged(&smaps.replace("Swap:", "Swop:")), []);
    }

    #[test]
    fn the_program_goes_on() {
        assert!(!unchanged(&fs::read_to_string("/proc/self/smaps").unwrap()).is_empty());
        give_back_files();
        assert_eq!("17".parse::<u8>(), Ok(17));
    }
}
