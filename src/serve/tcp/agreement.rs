//! What the nodes of a pair tell each other about the writers of their services, and who of them has the say. The
//! decision is [`writer::agree`]; here is what it is taken from.

use crate::pair::wire::Choice;
use crate::policy::service::{spread, writer};
use crate::serve::shared::Snapshot;
use crate::serve::tcp::Service;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub struct Agreement {
    inner: Mutex<Inner>,
    /// Bumped after something below changed.
    news: AtomicU64,
}

#[derive(Default)]
struct Inner {
    /// Virtual addresses that this node holds.
    held: Vec<IpAddr>,
    /// The other node's choices, while it is heard.
    other: Option<Vec<Choice>>,
}

impl Agreement {
    pub fn hold(&self, addresses: Vec<IpAddr>) {
        self.change(|inner| inner.held = addresses);
    }

    /// `None`: the other node is not heard any more.
    pub fn hear(&self, choices: Option<Vec<Choice>>) {
        self.change(|inner| inner.other = choices);
    }

    pub fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    /// What the other node says of `service`.
    pub fn other(&self, snapshot: &Snapshot, service: &Service) -> Option<writer::Other> {
        let inner = self.lock();
        let mark = spread::mark(&service.settings.name);
        let choice = inner.other.as_ref()?.iter().find(|choice| choice.service == mark)?;
        let index = |mark: u64| service.members.iter().position(|member| member.mark == mark);
        let leads = writer::leads(choice.is_active, is_active(service, &inner.held), comes_first(snapshot));
        Some(writer::Other { leads, writer: choice.writer.and_then(index) })
    }

    /// What the other node is to hear.
    pub fn choices(&self, snapshot: &Snapshot) -> Vec<Choice> {
        let inner = self.lock();
        let services = snapshot.services.iter().filter(|service| service.has_writer());
        let choice = |service: &std::sync::Arc<Service>| Choice {
            service: spread::mark(&service.settings.name),
            writer: service.writer().map(|writer| writer.mark),
            is_active: is_active(service, &inner.held),
        };
        services.map(choice).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.news.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clients of the service come to this node: it holds an address the service listens on, or any where it listens on all.
fn is_active(service: &Service, held: &[IpAddr]) -> bool {
    let mut addresses = service.settings.listen.iter().map(|address| address.ip());
    addresses.any(|address| held.contains(&address) || address.is_unspecified() && !held.is_empty())
}

/// In the order of `[cluster]`.
fn comes_first(snapshot: &Snapshot) -> bool {
    snapshot.settings.cluster.as_ref().is_none_or(|cluster| cluster.this == 0)
}
