//! Gratuitous ARP (RFC 5227, both forms) and unsolicited neighbour advertisements (RFC 4861) as bytes.
