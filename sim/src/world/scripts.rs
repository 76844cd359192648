//! Flush scripts, at work.

use super::machines::Place;
use super::{Happening, World};
use crate::invariants::CONTRACT;
use crate::network::{Content, LinkId, Side};
use crate::scripts::{Ending, Request};

impl World {
    /// A script knows what it is to do.
    pub(super) fn script_told(&mut self, director: usize, link: LinkId, request: Result<Request, String>) {
        match request {
            Ok(Request { hash, old_ip, new_ip }) => {
                self.statistics.scripts += 1;
                let text = format_args!("{}: flush {hash} from {old_ip} to {new_ip}", Place(director));
                self.trace.line(self.now, "script", text);
                let at = self.scripts.end_micros(self.now);
                self.schedule(at, Happening::ScriptEnds { link });
            }
            Err(text) => {
                let detail = format!("{} told its flush script {text:?}", Place(director));
                self.violate(CONTRACT, detail);
            }
        }
    }

    /// A script comes to its end.
    pub(super) fn script_ends(&mut self, link: LinkId) {
        let Some(ending) = self.scripts.end(link) else { return };
        self.statistics.failed_scripts += u64::from(!ending.succeeds());
        self.trace.line(self.now, "script", format_args!("#{link} ends: {ending:?}"));
        match ending {
            Ending::Says(text) => {
                if !text.is_empty() {
                    self.send(link, Side::Acceptor, Content::Bytes(text.to_vec()));
                }
                self.send(link, Side::Acceptor, Content::Finish);
            }
            Ending::Breaks => self.send(link, Side::Acceptor, Content::Reset),
        }
        self.network.abandon(link, Side::Acceptor);
    }
}
