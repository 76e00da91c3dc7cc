//! Where a server is at run time. A name's addresses are written by the control executor and read by all cores: a list
//! that is swapped as a whole, and atomics.

use crate::config::settings::Place;
use crate::net::driver::Driver;
use crate::net::stream::Stream;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone)]
pub enum Target {
    Ip(SocketAddr),
    Unix(Arc<Path>),
    Name(Arc<Name>),
    /// As if it were at this address.
    Far(SocketAddr, Arc<dyn Way>),
}

/// Another way to a server than connecting to its address.
pub trait Way: Send + Sync {
    fn open<'a>(&'a self, driver: &'a Driver, timeout: Duration) -> Opening<'a>;
}

pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + 'a>>;

impl Target {
    pub fn new(place: &Place) -> Target {
        match place {
            Place::Ip(address) => Target::Ip(*address),
            Place::Unix(path) => Target::Unix(path.clone()),
            Place::Name { host, port } => Target::Name(Arc::new(Name::new(host, *port))),
        }
    }

    pub fn name(&self) -> Option<&Arc<Name>> {
        match self {
            Target::Name(name) => Some(name),
            Target::Ip(_) | Target::Unix(_) | Target::Far(..) => None,
        }
    }

    /// Whether there is an address to connect to.
    pub fn is_resolved(&self) -> bool {
        self.generation() != Some(0)
    }

    /// Changes with the addresses of a name.
    pub fn generation(&self) -> Option<u64> {
        self.name().map(|name| name.generation())
    }

    /// Why there is no address, or why it is an old one.
    pub fn trouble(&self) -> Option<String> {
        let name = self.name()?;
        let told = *name.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.is_resolved(), told) {
            (false, None) => Some("not resolved yet".to_owned()),
            (false, Some(why)) => Some(format!("not resolved yet: {why}")),
            (true, told) => told.map(|why| format!("{why}; these are its last addresses")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Ip(address) | Target::Far(address, _) => write!(f, "{address}"),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Name(name) => write!(f, "{}:{}", name.host, name.port),
        }
    }
}

/// A server's name with what it resolves to.
pub struct Name {
    pub host: String,
    pub port: u16,
    /// Bumped after `addresses` changed; 0 until the first are known.
    generation: AtomicU64,
    /// Held for a clone or a swap.
    addresses: Mutex<Arc<Addresses>>,
    trouble: Mutex<Option<&'static str>>,
    /// Whose turn it is.
    turn: AtomicUsize,
}

/// The addresses of one answer.
#[derive(Default)]
pub struct Addresses {
    pub list: Vec<SocketAddr>,
    /// A bit each: the last connect to it failed.
    failing: AtomicU32,
}

/// In what order addresses are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// For traffic: in turn, those that refused connections last.
    Proven,
    /// For checks: in turn, so that an address that is back is found out.
    Plain,
}

impl Name {
    fn new(host: &str, port: u16) -> Name {
        Name {
            host: host.to_owned(),
            port,
            generation: AtomicU64::new(0),
            addresses: Mutex::default(),
            trouble: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn addresses(&self) -> Arc<Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these, which are not empty. Answers whether they are others than before.
    pub fn publish(&self, list: Vec<SocketAddr>) -> bool {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.list == list {
            return false;
        }
        *addresses = Arc::new(Addresses { list, failing: AtomicU32::new(0) });
        drop(addresses);
        self.generation.fetch_add(1, Ordering::Release);
        true
    }

    /// What is wrong with the addresses; `None` when all is well.
    pub fn set_trouble(&self, trouble: Option<&'static str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// The addresses, and the order in which this connect should try them.
    pub fn candidates(&self, order: Order) -> (Arc<Addresses>, Vec<usize>) {
        let addresses = self.addresses();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let is_last = |index: &usize| order == Order::Proven && addresses.is_failing(*index);
        let (mut last, mut indices): (Vec<usize>, Vec<usize>) = (0..addresses.list.len()).partition(is_last);
        for part in [&mut indices, &mut last] {
            let first = turn.checked_rem(part.len()).unwrap_or(0);
            part.rotate_left(first);
        }
        indices.append(&mut last);
        (addresses, indices)
    }
}

impl Addresses {
    pub fn note(&self, index: usize, has_failed: bool) {
        let bit = 1u32.checked_shl(index as u32).unwrap_or(0);
        if has_failed {
            self.failing.fetch_or(bit, Ordering::Relaxed);
        } else if self.failing.load(Ordering::Relaxed) & bit != 0 {
            self.failing.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    fn is_failing(&self, index: usize) -> bool {
        self.failing.load(Ordering::Relaxed) & 1u32.checked_shl(index as u32).unwrap_or(0) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(list: &[&str]) -> Name {
        let name = Name::new("web", 80);
        assert!(name.publish(list.iter().map(|address| address.parse().unwrap()).collect()));
        name
    }

    #[test]
    fn a_name_has_no_address_until_one_is_published_and_says_so() {
        let target = Target::new(&Place::Name { host: "web".into(), port: 80 });
        assert!(!target.is_resolved());
        assert_eq!(target.trouble().unwrap(), "not resolved yet");
        let name = target.name().unwrap();
        assert!(name.candidates(Order::Proven).1.is_empty());
        name.set_trouble(Some("no DNS server answers"));
        assert_eq!(target.trouble().unwrap(), "not resolved yet: no DNS server answers");
        assert!(name.publish(vec!["10.0.0.1:80".parse().unwrap()]));
        assert!(target.is_resolved());
        assert!(target.trouble().unwrap().starts_with("no DNS server answers; "));
        name.set_trouble(None);
        assert_eq!(target.trouble(), None);
    }

    #[test]
    fn the_same_addresses_again_are_no_change() {
        let name = name(&["10.0.0.1:80"]);
        let before = name.generation();
        assert!(!name.publish(vec!["10.0.0.1:80".parse().unwrap()]));
        assert_eq!(name.generation(), before);
        assert!(name.publish(vec!["10.0.0.2:80".parse().unwrap()]));
        assert_eq!(name.generation(), before + 1);
    }

    #[test]
    fn every_connect_begins_at_the_next_address() {
        let name = name(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        let orders: Vec<_> = (0..4).map(|_| name.candidates(Order::Proven).1).collect();
        assert_eq!(orders, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1], vec![0, 1, 2]]);
    }

    #[test]
    fn an_address_that_fails_comes_last_until_it_works_again() {
        let name = name(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        name.addresses().note(1, true);
        for _ in 0..6 {
            let (_, order) = name.candidates(Order::Proven);
            assert_eq!((order.len(), order[2]), (3, 1));
        }
        // Checks still begin there when it is its turn.
        assert!((0..3).any(|_| name.candidates(Order::Plain).1[0] == 1));
        name.addresses().note(1, false);
        assert!((0..3).any(|_| name.candidates(Order::Proven).1[0] == 1));
    }

    #[test]
    fn what_failed_is_forgotten_with_the_addresses() {
        let name = name(&["10.0.0.1:80", "10.0.0.2:80"]);
        (0..2).for_each(|index| name.addresses().note(index, true));
        assert!(name.publish(vec!["10.0.0.2:80".parse().unwrap(), "10.0.0.3:80".parse().unwrap()]));
        assert!((0..2).all(|index| !name.addresses().is_failing(index)));
    }
}
