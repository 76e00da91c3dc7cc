//! Which sessions there are, by run id, and who holds which name and port. One for all sessions of a node: a name or
//! port has one holder at a time.

use super::identity::ENGINE_PORTS;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// An engine's port stays with the source of its last holder for so long after that is gone, so that nobody else who
/// has the shared key slips in while the engine's client reconnects, and is sent the engine's secrets. Ports of apps
/// do not: an app's container may come back with another address.
const ENGINE_KEPT: Duration = Duration::from_secs(300);

/// Sessions of one node.
pub const SESSIONS_MAX: usize = 4_096;

/// Names a session; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Where a session comes from, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub address: IpAddr,
    /// Of the client certificate, if there is one.
    pub certificate: Option<[u8; 32]>,
}

/// A login's place among the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    pub session: SessionId,
    /// What the client has to show to come back, and to attach work connections.
    pub run_id: String,
    /// A session of the same client. It must be aborted now, whatever its connection is like.
    pub replaces: Option<SessionId>,
}

/// Why a name or port is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    Name(SessionId),
    Port(SessionId),
    /// Kept for the source of its last holder.
    Kept,
}

#[derive(Debug)]
struct Place {
    run_id: String,
    source: Source,
}

#[derive(Debug)]
struct Kept {
    source: Source,
    until: Duration,
}

#[derive(Debug, Default)]
pub struct Registry {
    last: u64,
    sessions: HashMap<SessionId, Place>,
    run_ids: HashMap<String, SessionId>,
    names: HashMap<String, (SessionId, u16)>,
    ports: HashMap<u16, SessionId>,
    kept: HashMap<u16, Kept>,
}

impl Registry {
    /// A place for a login that is granted. It keeps the run id it shows, unless that belongs to somebody from
    /// elsewhere: then it gets `fresh`, and the other one stays. `None` when there are too many sessions.
    pub fn admit(&mut self, run_id: &str, source: Source, fresh: [u8; 16]) -> Option<Admission> {
        let held = self.run_ids.get(run_id).copied();
        let is_theirs = |id| self.sessions.get(&id).is_some_and(|place| place.source == source);
        let replaces = held.filter(|id| is_theirs(*id));
        if replaces.is_none() && self.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        let is_foreign = held.is_some() && replaces.is_none();
        let run_id = if is_foreign || !is_run_id(run_id) { hex(&fresh) } else { run_id.to_owned() };
        if let Some(old) = replaces {
            self.sessions.remove(&old);
        }
        self.last += 1;
        let session = SessionId(self.last);
        self.run_ids.insert(run_id.clone(), session);
        self.sessions.insert(session, Place { run_id: run_id.clone(), source });
        Some(Admission { session, run_id, replaces })
    }

    /// The session a run id belongs to, for work connections that come on connections of their own. They must come
    /// from where the session does.
    pub fn session(&self, run_id: &str, source: &Source) -> Option<SessionId> {
        let id = *self.run_ids.get(run_id)?;
        self.sessions.get(&id).is_some_and(|place| place.source == *source).then_some(id)
    }

    /// Who serves this port.
    pub fn holder(&self, port: u16) -> Option<SessionId> {
        self.ports.get(&port).copied()
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Reserves a name and a port, both or none.
    pub(super) fn claim(
        &mut self,
        now: Duration,
        session: SessionId,
        source: &Source,
        name: &str,
        port: u16,
    ) -> Result<(), Conflict> {
        if let Some((holder, _)) = self.names.get(name) {
            return Err(Conflict::Name(*holder));
        }
        if let Some(holder) = self.ports.get(&port) {
            return Err(Conflict::Port(*holder));
        }
        if self.kept.get(&port).is_some_and(|kept| now < kept.until && kept.source != *source) {
            return Err(Conflict::Kept);
        }
        self.kept.remove(&port);
        self.names.insert(name.to_owned(), (session, port));
        self.ports.insert(port, session);
        Ok(())
    }

    /// Gives a name and its port back. `is_lost` when its session ended, and may want to come back.
    pub(super) fn release(&mut self, now: Duration, session: SessionId, source: &Source, name: &str, is_lost: bool) {
        let Some((_, port)) = self.names.get(name).copied().filter(|(holder, _)| *holder == session) else { return };
        self.names.remove(name);
        self.ports.remove(&port);
        if is_lost && ENGINE_PORTS.contains(&port) {
            self.kept.insert(port, Kept { source: source.clone(), until: now + ENGINE_KEPT });
        }
    }

    /// A session is gone. Its run id stays known only if another session has it by now.
    pub(super) fn leave(&mut self, session: SessionId) {
        if let Some(place) = self.sessions.remove(&session)
            && self.run_ids.get(&place.run_id) == Some(&session)
        {
            self.run_ids.remove(&place.run_id);
        }
    }
}

/// Whether it can be taken over as it is: another server may have issued it.
fn is_run_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn source(last: u8) -> Source {
        Source { address: [192, 0, 2, last].into(), certificate: None }
    }

    fn admit(registry: &mut Registry, run_id: &str, from: u8) -> Admission {
        registry.admit(run_id, source(from), [from; 16]).unwrap()
    }

    #[test]
    fn a_first_login_gets_a_run_id_and_a_later_one_keeps_its_own() {
        let mut registry = Registry::default();
        let first = admit(&mut registry, "", 1);
        assert_eq!((first.run_id.as_str(), first.replaces), ("01".repeat(16).as_str(), None));
        // Issued by another node.
        let known = admit(&mut registry, "0123456789abcdef", 2);
        assert_eq!((known.run_id.as_str(), known.replaces), ("0123456789abcdef", None));
        assert_eq!(registry.sessions(), 2);
    }

    #[test]
    fn what_is_no_run_id_is_not_taken_over() {
        let mut registry = Registry::default();
        for bad in ["short", "0123456789abcde\n", "0123456789abcde\u{e9}", &"x".repeat(129)] {
            assert_eq!(admit(&mut registry, bad, 3).run_id, "03".repeat(16), "{bad:?}");
        }
    }

    #[test]
    fn the_same_client_replaces_its_session() {
        let mut registry = Registry::default();
        let old = admit(&mut registry, "", 1);
        let new = admit(&mut registry, &old.run_id, 1);
        assert_eq!((new.run_id.clone(), new.replaces), (old.run_id.clone(), Some(old.session)));
        assert_eq!(registry.session(&new.run_id, &source(1)), Some(new.session));
        // The old one leaves later, without taking the run id along.
        registry.leave(old.session);
        assert_eq!(registry.session(&new.run_id, &source(1)), Some(new.session));
        registry.leave(new.session);
        assert_eq!(registry.session(&new.run_id, &source(1)), None);
        assert_eq!(registry.sessions(), 0);
    }

    #[test]
    fn a_run_id_from_elsewhere_replaces_nobody() {
        let mut registry = Registry::default();
        let owner = admit(&mut registry, "", 1);
        let thief = admit(&mut registry, &owner.run_id, 2);
        assert_eq!(thief.replaces, None);
        assert_ne!(thief.run_id, owner.run_id);
        assert_eq!(registry.session(&owner.run_id, &source(1)), Some(owner.session));
        assert_eq!(registry.session(&owner.run_id, &source(2)), None, "nor attaches anything to it");
    }

    #[test]
    fn a_full_node_takes_only_those_who_replace() {
        let mut registry = Registry::default();
        let first = admit(&mut registry, "", 1);
        for number in 1..SESSIONS_MAX as u128 {
            assert!(registry.admit("", source(1), number.to_be_bytes()).is_some());
        }
        assert_eq!(registry.admit("", source(1), [9; 16]), None);
        assert!(registry.admit(&first.run_id, source(1), [9; 16]).is_some());
    }

    #[test]
    fn names_and_ports_have_one_holder() {
        let mut registry = Registry::default();
        let (a, b) = (admit(&mut registry, "", 1).session, admit(&mut registry, "", 2).session);
        assert_eq!(registry.claim(NOW, a, &source(1), "app", 23_000), Ok(()));
        assert_eq!(registry.claim(NOW, b, &source(2), "app", 23_001), Err(Conflict::Name(a)));
        assert_eq!(registry.claim(NOW, b, &source(2), "other", 23_000), Err(Conflict::Port(a)));
        assert_eq!(registry.holder(23_001), None, "a refused claim holds nothing");
        registry.release(NOW, b, &source(2), "app", false);
        assert_eq!(registry.holder(23_000), Some(a), "only the holder gives back");
        registry.release(NOW, a, &source(1), "app", true);
        assert_eq!(registry.claim(NOW, b, &source(2), "app", 23_000), Ok(()));
    }

    #[test]
    fn an_engine_s_port_waits_for_its_engine() {
        let mut registry = Registry::default();
        let a = admit(&mut registry, "", 1).session;
        registry.claim(NOW, a, &source(1), "engine", 24_001).unwrap();
        registry.release(NOW, a, &source(1), "engine", true);
        let b = admit(&mut registry, "", 2).session;
        let (early, late) = (NOW + ENGINE_KEPT - Duration::from_nanos(1), NOW + ENGINE_KEPT);
        assert_eq!(registry.claim(early, b, &source(2), "thief", 24_001), Err(Conflict::Kept));
        assert_eq!(registry.claim(early, a, &source(1), "engine", 24_001), Ok(()));
        registry.release(early, a, &source(1), "engine", false);
        assert_eq!(registry.claim(early, b, &source(2), "next", 24_001), Ok(()), "given back by its own will");
        registry.release(NOW, b, &source(2), "next", true);
        assert_eq!(registry.claim(late, a, &source(1), "engine", 24_001), Ok(()));
    }
}
