//! The peer's client connections, in memory the worker writes and its privileged parent reads at a take-over.
//!
//! A fixed array of slots; an empty one is all zero. The reader may see a slot while it changes: the worst that comes
//! of it is one bare ACK to a wrong port, which any TCP answers or ignores (`control::tickle`).

#![allow(unsafe_code)] // the promise that the table is atomics only

use crate::pair::connections::CONNECTIONS_MAX;
use crate::pair::wire::Connection;
use crate::shared::{Plain, Shared};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[repr(C)]
#[derive(Default)]
struct Slot {
    client: [AtomicU64; 2],
    local: [AtomicU64; 2],
    /// Both ports, the client's in the high half; 0 means empty. Written last, cleared first.
    ports: AtomicU32,
    _rest: AtomicU32,
}

#[repr(C)]
pub struct Table {
    slots: [Slot; CONNECTIONS_MAX],
}

// SAFETY: atomics only; zero bytes are empty slots.
unsafe impl Plain for Table {}

pub type SharedTable = Shared<Table>;

impl Table {
    /// What the peer had open when it was last heard. Parent side.
    pub fn connections(&self) -> impl Iterator<Item = Connection> + '_ {
        self.slots.iter().filter_map(|slot| {
            let ports = slot.ports.load(Ordering::Acquire);
            if ports == 0 {
                return None;
            }
            let address = |words: &[AtomicU64; 2]| {
                let [high, low] = words.each_ref().map(|word| u128::from(word.load(Ordering::Relaxed)));
                IpAddr::V6(Ipv6Addr::from(high << 64 | low)).to_canonical()
            };
            Some(Connection {
                client: SocketAddr::new(address(&slot.client), (ports >> 16) as u16),
                local: SocketAddr::new(address(&slot.local), (ports & 0xffff) as u16),
            })
        })
    }
}

/// The worker's side: knows which slot holds what.
pub struct Writer {
    table: SharedTable,
    slots: HashMap<Connection, usize>,
    free: Vec<usize>,
}

impl Writer {
    pub fn new(table: SharedTable) -> Writer {
        let mut writer = Writer { table, slots: HashMap::new(), free: Vec::new() };
        writer.clear();
        writer
    }

    pub fn clear(&mut self) {
        for slot in &self.table.slots {
            slot.ports.store(0, Ordering::Release);
        }
        self.slots.clear();
        self.free = (0..CONNECTIONS_MAX).rev().collect();
    }

    pub fn insert(&mut self, connection: Connection) {
        if self.slots.contains_key(&connection) {
            return;
        }
        let Some(index) = self.free.pop() else { return };
        let Some(slot) = self.table.slots.get(index) else { return };
        let put = |words: &[AtomicU64; 2], address: IpAddr| {
            let bits = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            words[0].store((bits >> 64) as u64, Ordering::Relaxed);
            words[1].store(bits as u64, Ordering::Relaxed);
        };
        put(&slot.client, connection.client.ip());
        put(&slot.local, connection.local.ip());
        let ports = u32::from(connection.client.port()) << 16 | u32::from(connection.local.port());
        slot.ports.store(ports, Ordering::Release);
        self.slots.insert(connection, index);
    }

    pub fn remove(&mut self, connection: &Connection) {
        if let Some(index) = self.slots.remove(connection) {
            if let Some(slot) = self.table.slots.get(index) {
                slot.ports.store(0, Ordering::Release);
            }
            self.free.push(index);
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_reads_what_the_worker_wrote() {
        let (parent, memfd) = SharedTable::create(c"test").unwrap();
        let mut writer = Writer::new(SharedTable::open(memfd).unwrap());
        let one = Connection { client: "203.0.113.9:40001".parse().unwrap(), local: "10.0.0.10:443".parse().unwrap() };
        let two = Connection { client: "[2001:db8::9]:65535".parse().unwrap(), local: "[fd00::10]:1".parse().unwrap() };
        writer.insert(one);
        writer.insert(two);
        writer.insert(two);
        assert_eq!(parent.connections().collect::<Vec<_>>(), [one, two]);
        writer.remove(&one);
        writer.remove(&one);
        assert_eq!(parent.connections().collect::<Vec<_>>(), [two]);
        writer.clear();
        assert_eq!(parent.connections().count(), 0);
    }

    #[test]
    fn a_full_table_takes_no_more_and_goes_on_when_there_is_room() {
        let (parent, memfd) = SharedTable::create(c"test").unwrap();
        let mut writer = Writer::new(SharedTable::open(memfd).unwrap());
        let connection = |n: usize| Connection {
            client: (Ipv6Addr::from_bits(n as u128), 1).into(),
            local: (Ipv6Addr::LOCALHOST, 443).into(),
        };
        for n in 0..=CONNECTIONS_MAX {
            writer.insert(connection(n + 1));
        }
        assert_eq!((writer.len(), parent.connections().count()), (CONNECTIONS_MAX, CONNECTIONS_MAX));
        writer.remove(&connection(1));
        writer.insert(connection(CONNECTIONS_MAX + 1));
        assert_eq!(writer.len(), CONNECTIONS_MAX);
    }
}
