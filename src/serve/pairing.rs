//! The worker's end of the pair link: starts it and carries its words to and from the parent.

use crate::config::settings::Settings;
use crate::pair::bulletin::Bulletin;
use crate::pair::connections::Journal;
use crate::pair::identity::Identity;
use crate::pair::link::{self, Link, Owner};
use crate::pair::table::{SharedTable, Writer};
use crate::pair::wire::{Ban, Choice, Connection, Handover};
use crate::serve::parent::Report;
use crate::serve::shared::Shared;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

/// Reports to the parent from any thread. Must not block.
pub type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// What the cores and the orders need of the link.
#[derive(Clone)]
pub struct Pairing {
    link: Arc<Link>,
    journal: Arc<Journal>,
    bulletin: Arc<Bulletin>,
    virtual_addresses: Arc<HashSet<IpAddr>>,
}

impl Pairing {
    /// `table` and `listener` came with `Order::Start`. The error is for the log: a node without link still serves.
    pub fn start(
        shared: &Arc<Shared>,
        settings: &Settings,
        cores: usize,
        table: OwnedFd,
        listener: OwnedFd,
        reporter: Reporter,
    ) -> Result<Pairing, Box<dyn std::error::Error + Send + Sync>> {
        let cluster = settings.cluster.as_ref().ok_or("no [cluster]")?;
        let node = cluster.nodes.get(cluster.this).ok_or("this node is not in [cluster]")?;
        // A pair: with more nodes the first other one is told. They would need one link each.
        let peer = cluster.nodes.iter().find(|other| other.address != node.address).ok_or("no other node")?;
        let identity = Identity::derive(&cluster.secret.0)?;
        let journal = Arc::new(Journal::new(cores));
        let settings_of_link = link::Settings {
            node: node.name.clone(),
            source: node.address,
            peer: SocketAddr::new(peer.address, cluster.link_port),
            identity,
        };
        let writer = Writer::new(SharedTable::open(table)?);
        let owner = Arc::new(Relay { reporter, shared: Arc::downgrade(shared) });
        let bulletin = Arc::new(Bulletin::default());
        let listener = TcpListener::from(listener);
        let link = Link::start(settings_of_link, listener, journal.clone(), bulletin.clone(), writer, owner)?;
        let addresses = settings.routers.iter().flat_map(|router| router.held()).map(|network| network.addr());
        Ok(Pairing { link: Arc::new(link), journal, bulletin, virtual_addresses: Arc::new(addresses.collect()) })
    }

    /// For `Order::Pair`. A peer that cannot be told will not answer; the parent has its deadline.
    pub fn say(&self, words: Handover) {
        self.link.say(words);
    }

    /// The worker ends.
    pub fn stop(&self) {
        self.link.stop();
    }

    /// For what the other node is to hear.
    pub fn bulletin(&self) -> &Arc<Bulletin> {
        &self.bulletin
    }

    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Notes a client connection on a virtual address until the answer is dropped; `None` on other addresses.
    pub fn note(&self, core: usize, client: SocketAddr, local: SocketAddr) -> Option<Noted> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let connection = Connection { client: canonical(client), local: canonical(local) };
        if !self.virtual_addresses.contains(&connection.local.ip()) {
            return None;
        }
        self.journal.opened(core, connection);
        Some(Noted { journal: Arc::clone(&self.journal), core, connection })
    }
}

/// A noted connection; its end is noted on drop.
pub struct Noted {
    journal: Arc<Journal>,
    core: usize,
    connection: Connection,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.journal.closed(self.core, self.connection);
    }
}

struct Relay {
    reporter: Reporter,
    /// It owns the link.
    shared: Weak<Shared>,
}

impl Owner for Relay {
    fn handover(&self, words: Handover) {
        (self.reporter)(Report::Pair(words));
    }

    fn connected(&self, is_connected: bool, peer: &str) {
        tracing::info!(target: "lyre::pair", peer, is_connected, "pair link");
        (self.reporter)(Report::Link { is_up: is_connected });
    }

    fn writers(&self, writers: Option<Vec<Choice>>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.agreement.hear(writers);
        }
    }

    fn bans(&self, bans: Vec<Ban>) {
        if let Some(shared) = self.shared.upgrade() {
            let snapshot = shared.snapshot();
            bans.iter().for_each(|ban| shared.abuse.learn(&snapshot.settings, ban));
        }
    }

    fn banned(&self) -> Vec<Ban> {
        self.shared.upgrade().map(|shared| shared.abuse.own_bans()).unwrap_or_default()
    }
}
