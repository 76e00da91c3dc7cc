//! The server for a connection of a TCP service that may use several.

use std::net::IpAddr;

/// How connections are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// The server with the fewest connections.
    LeastConnections,
    /// The same client, the same server, as long as that one lives; on every node and after every restart.
    Source,
    /// The first of the list that lives.
    First,
}

/// One server at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub is_usable: bool,
    /// Tried for this connection.
    pub is_excluded: bool,
    pub connections: u32,
    pub capacity: u32,
    /// Stands for the server's name, see [`mark`].
    pub mark: u64,
}

impl Candidate {
    fn is_open(&self) -> bool {
        self.is_usable && !self.is_excluded && self.connections < self.capacity
    }
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Index of the server.
    Server(usize),
    /// All that may be asked have as many connections as they may have.
    Full,
    None,
}

/// Picks for `client`; `random` decides between equals.
pub fn pick(spread: Spread, servers: &[Candidate], client: IpAddr, random: u64) -> Pick {
    let open = || servers.iter().enumerate().filter(|(_, server)| server.is_open());
    let found = match spread {
        Spread::First => open().next(),
        Spread::Source => {
            let client = mark_of(client);
            open().max_by_key(|(index, server)| (mix(client ^ server.mark), std::cmp::Reverse(*index)))
        }
        Spread::LeastConnections => {
            let turned = |index: usize| mix(random.wrapping_add(index as u64));
            open().min_by_key(|(index, server)| (server.connections, turned(*index)))
        }
    };
    match found {
        Some((index, _)) => Pick::Server(index),
        None if servers.iter().any(|server| server.is_usable && !server.is_excluded) => Pick::Full,
        None => Pick::None,
    }
}

/// A number for a server's name, the same in every process (FNV-1a).
pub fn mark(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An IPv6 client is its /64: addresses within change by the day.
fn mark_of(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(u32::from(v4))),
        IpAddr::V6(v6) => mix((u128::from(v6) >> 64) as u64),
    }
}

/// The finaliser of SplitMix64: every bit of the input moves every bit of the output.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: u32) -> Vec<Candidate> {
        (0..count)
            .map(|n| Candidate {
                is_usable: true,
                is_excluded: false,
                connections: 0,
                capacity: 10,
                mark: mark(&format!("10.0.0.{n}:3306")),
            })
            .collect()
    }

    fn clients() -> impl Iterator<Item = IpAddr> {
        (0..3000u32).map(|n| IpAddr::from((0x0a01_0000 + n).to_be_bytes()))
    }

    #[test]
    fn first_takes_the_next_one_only_when_it_must() {
        let mut list = servers(3);
        let pick = |list: &[Candidate]| pick(Spread::First, list, IpAddr::from([10, 1, 0, 1]), 7);
        assert_eq!(pick(&list), Pick::Server(0));
        list[0].is_excluded = true;
        assert_eq!(pick(&list), Pick::Server(1));
        list[1].connections = 10;
        assert_eq!(pick(&list), Pick::Server(2));
        list[2].is_usable = false;
        assert_eq!(pick(&list), Pick::Full);
        list[1].is_usable = false;
        assert_eq!(pick(&list), Pick::None);
    }

    #[test]
    fn least_connections_takes_the_emptiest_and_spreads_over_equals() {
        let mut list = servers(3);
        list[1].connections = 4;
        let mut counts = [0; 3];
        for random in 0..3000 {
            let Pick::Server(index) = pick(Spread::LeastConnections, &list, IpAddr::from([10, 1, 0, 1]), random) else {
                panic!("nobody")
            };
            counts[index] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!(counts[0] > 1300 && counts[2] > 1300, "{counts:?}");
    }

    #[test]
    fn a_source_keeps_its_server_and_a_lost_server_moves_only_its_own() {
        let list = servers(3);
        let of = |list: &[Candidate], client, random| pick(Spread::Source, list, client, random);
        let mut without = list.clone();
        without[1].is_usable = false;
        let mut counts = [0; 3];
        for client in clients() {
            let Pick::Server(index) = of(&list, client, 1) else { panic!("nobody") };
            counts[index] += 1;
            assert_eq!(of(&list, client, 2), Pick::Server(index));
            if index != 1 {
                assert_eq!(of(&without, client, 3), Pick::Server(index));
            }
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let list = servers(5);
        let of = |text: &str| pick(Spread::Source, &list, text.parse().unwrap(), 0);
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
