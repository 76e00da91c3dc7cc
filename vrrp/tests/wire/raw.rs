//! Adverts built byte by byte, with any field wrong, sent as whole frames. Shares no code with what it tests.

use super::Node;
use pnet::datalink::{self, Channel, Config, DataLinkSender};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame to be. The default of each family is flawless and outranks everybody.
#[derive(Clone, Debug)]
pub struct Shot {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    pub protocol: u8,
    pub version: u8,
    pub kind: u8,
    pub vrid: u8,
    pub priority: u8,
    /// As claimed; none counts `addresses`.
    pub count: Option<u8>,
    /// Bytes 4 and 5: reserved bits and interval, or authentication type and seconds.
    pub middle: [u8; 2],
    pub addresses: Vec<IpAddr>,
    /// After the addresses: a password, a trailer, rubbish.
    pub tail: Vec<u8>,
    /// The last so many bytes of the tail are outside the checksum, as an HMAC trailer over IPv4.
    pub unsummed: usize,
    pub checksum: Sum,
    pub message_max: Option<usize>,
    /// IPv4 options; multiples of four bytes.
    pub options: Vec<u8>,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    pub vlan: Option<u16>,
    /// Fills the frame up to the shortest that Ethernet carries.
    pub is_padded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sum {
    Pseudo,
    /// Without pseudo-header.
    Message,
    /// The right one plus this.
    Off(u16),
    Exactly(u16),
}

impl Shot {
    pub fn v4() -> Shot {
        Shot {
            source: IpAddr::from([10, 77, 0, 3]),
            destination: IpAddr::from([224, 0, 0, 18]),
            ttl: 255,
            protocol: 112,
            version: 3,
            kind: 1,
            vrid: 51,
            priority: 255,
            count: None,
            middle: [0, 10],
            addresses: vec![IpAddr::from([10, 77, 0, 100])],
            tail: Vec::new(),
            unsummed: 0,
            checksum: Sum::Pseudo,
            message_max: None,
            options: Vec::new(),
            fragment: 0,
            vlan: None,
            is_padded: false,
        }
    }

    pub fn v6() -> Shot {
        Shot {
            source: "fe80::3".parse().unwrap(),
            destination: "ff02::12".parse().unwrap(),
            addresses: vec!["fd77::100".parse().unwrap()],
            ..Shot::v4()
        }
    }

    /// Version 2, one second, without authentication.
    pub fn v2() -> Shot {
        Shot { version: 2, middle: [0, 1], tail: vec![0; 8], checksum: Sum::Message, ..Shot::v4() }
    }

    /// The VRRP message.
    pub fn message(&self) -> Vec<u8> {
        let count = self.count.unwrap_or(self.addresses.len() as u8);
        let mut message = vec![self.version << 4 | self.kind, self.vrid, self.priority, count];
        message.extend(self.middle);
        message.extend([0, 0]);
        self.addresses.iter().for_each(|address| message.extend(octets(*address)));
        message.extend(&self.tail);
        let summed = message.len() - self.unsummed;
        let pseudo = match self.checksum {
            Sum::Message => 0,
            _ if self.version == 2 => 0,
            _ => words(&octets(self.source)) + words(&octets(self.destination)) + 112 + summed as u64,
        };
        let right = !folded(pseudo + words(&message[..summed]));
        let sum = match self.checksum {
            Sum::Pseudo | Sum::Message => right,
            Sum::Off(by) => right.wrapping_add(by),
            Sum::Exactly(sum) => sum,
        };
        message[6..8].copy_from_slice(&sum.to_be_bytes());
        message.truncate(self.message_max.unwrap_or(usize::MAX));
        message
    }

    /// The whole frame from this hardware address.
    pub fn frame(&self, from: [u8; 6]) -> Vec<u8> {
        let (mac, ether_type): ([u8; 6], [u8; 2]) = match self.destination {
            IpAddr::V4(to) if to.is_multicast() => ([0x01, 0, 0x5e, 0, 0, 0x12], [8, 0]),
            IpAddr::V6(to) if to.is_multicast() => ([0x33, 0x33, 0, 0, 0, 0x12], [0x86, 0xdd]),
            IpAddr::V4(_) => ([0xff; 6], [8, 0]),
            IpAddr::V6(_) => ([0xff; 6], [0x86, 0xdd]),
        };
        let mut frame = [mac, from].concat();
        if let Some(vlan) = self.vlan {
            frame.extend([0x81, 0]);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(ether_type);
        frame.extend(self.packet());
        if self.is_padded {
            frame.resize(frame.len().max(60), 0);
        }
        frame
    }

    fn packet(&self) -> Vec<u8> {
        let message = self.message();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut packet = self.ipv4_header(source, destination, message.len());
                packet.extend(message);
                packet
            }
            _ => {
                let mut packet = vec![0x6c, 0, 0, 0];
                packet.extend((message.len() as u16).to_be_bytes());
                packet.extend([self.protocol, self.ttl]);
                packet.extend(octets(self.source));
                packet.extend(octets(self.destination));
                packet.extend(message);
                packet
            }
        }
    }

    fn ipv4_header(&self, source: Ipv4Addr, destination: Ipv4Addr, payload: usize) -> Vec<u8> {
        let length = 20 + self.options.len();
        let mut header = vec![0x40 | (length / 4) as u8, 0xc0];
        header.extend(((length + payload) as u16).to_be_bytes());
        header.extend([0, 1]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let sum = !folded(words(&header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

/// Sends frames on a node's `eth0`.
pub struct Gun {
    sender: Box<dyn DataLinkSender>,
    mac: [u8; 6],
}

impl Gun {
    pub fn on(node: &Node) -> Gun {
        node.enter(|| {
            let interface = datalink::interfaces().into_iter().find(|interface| interface.name == "eth0").unwrap();
            let config = Config { write_buffer_size: 16384, ..Config::default() };
            let Ok(Channel::Ethernet(sender, _)) = datalink::channel(&interface, config) else {
                panic!("no packet socket")
            };
            Gun { sender, mac: interface.mac.unwrap().octets() }
        })
    }

    pub fn fire(&mut self, shot: &Shot) {
        self.send(&shot.frame(self.mac));
    }

    pub fn send(&mut self, frame: &[u8]) {
        self.sender.send_to(frame, None).unwrap().unwrap();
    }

    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    }
}

fn words(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
