//! Our client connections to virtual addresses, as the cores report them and the link sends them.

use crate::pair::wire::Connection;
use std::collections::HashSet;
use std::sync::Mutex;

/// Connections one node replicates; those beyond it are reset by their timeouts, as without a pair link.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Where the cores write. One lane a core: its lock is only ever contended by the link's drain, ten times a second.
pub struct Journal {
    lanes: Vec<Mutex<Vec<(Change, Connection)>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Opened,
    Closed,
}

impl Journal {
    pub fn new(cores: usize) -> Journal {
        Journal { lanes: (0..cores).map(|_| Mutex::default()).collect() }
    }

    pub fn opened(&self, core: usize, connection: Connection) {
        self.note(core, Change::Opened, connection);
    }

    pub fn closed(&self, core: usize, connection: Connection) {
        self.note(core, Change::Closed, connection);
    }

    fn note(&self, core: usize, change: Change, connection: Connection) {
        let Some(lane) = self.lanes.get(core) else { return };
        if let Ok(mut lane) = lane.lock()
            // A link thread that died must not let the journal grow for ever.
            && lane.len() < 4 * CONNECTIONS_MAX
        {
            lane.push((change, connection));
        }
    }

    fn take(&self) -> impl Iterator<Item = (Change, Connection)> + '_ {
        self.lanes.iter().flat_map(|lane| lane.lock().map(|mut lane| std::mem::take(&mut *lane)).unwrap_or_default())
    }
}

/// What is open now; owned by the link.
#[derive(Default)]
pub struct Open {
    open: HashSet<Connection>,
}

/// What changed since the last look. A connection that came and went in between is in neither list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub opened: Vec<Connection>,
    pub closed: Vec<Connection>,
}

impl Open {
    pub fn absorb(&mut self, journal: &Journal) -> Delta {
        let mut delta = Delta::default();
        let mut fresh = HashSet::new();
        for (change, connection) in journal.take() {
            match change {
                Change::Opened if self.open.len() < CONNECTIONS_MAX => {
                    self.open.insert(connection);
                    fresh.insert(connection);
                }
                Change::Opened => {}
                Change::Closed => {
                    if self.open.remove(&connection) && !fresh.remove(&connection) {
                        delta.closed.push(connection);
                    }
                }
            }
        }
        delta.opened = fresh.into_iter().collect();
        delta
    }

    pub fn snapshot(&self) -> Vec<Connection> {
        self.open.iter().copied().collect()
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(port: u16) -> Connection {
        Connection { client: ([203, 0, 113, 9], port).into(), local: ([10, 0, 0, 10], 443).into() }
    }

    #[test]
    fn a_delta_holds_the_net_change_of_all_cores() {
        let journal = Journal::new(2);
        let mut open = Open::default();
        journal.opened(0, connection(1));
        journal.opened(1, connection(2));
        journal.opened(1, connection(3));
        journal.closed(1, connection(3));
        let mut delta = open.absorb(&journal);
        delta.opened.sort_by_key(|c| c.client.port());
        assert_eq!(delta, Delta { opened: vec![connection(1), connection(2)], closed: vec![] });
        journal.closed(0, connection(1));
        assert_eq!(open.absorb(&journal), Delta { opened: vec![], closed: vec![connection(1)] });
        assert_eq!(open.snapshot(), vec![connection(2)]);
    }

    #[test]
    fn closing_what_was_never_replicated_says_nothing() {
        let journal = Journal::new(1);
        journal.closed(0, connection(9));
        assert_eq!(Open::default().absorb(&journal), Delta::default());
    }
}
