//! Our counters under the names of RFC 6527 (VRRPv3 MIB), for those who know them.

use lyre_vrrp::runner::Counters;

/// Values of one router, without the prefix `vrrpv3`.
pub(super) fn statistics(counters: &Counters) -> [(&'static str, u64); 11] {
    let drops = &counters.drops;
    [
        ("StatisticsMasterTransitions", counters.transitions_to_active),
        ("StatisticsRcvdAdvertisements", counters.adverts_received),
        ("StatisticsAdvIntervalErrors", drops.interval.saturating_add(counters.interval_mismatches)),
        ("StatisticsIpTtlErrors", drops.ttl),
        ("StatisticsRcvdPriZeroPackets", counters.releases_received),
        ("StatisticsSentPriZeroPackets", counters.releases_sent),
        ("StatisticsRcvdInvalidTypePackets", drops.kind),
        ("StatisticsAddressListErrors", drops.address_list.saturating_add(counters.address_list_mismatches)),
        ("StatisticsPacketLengthErrors", drops.length),
        ("RouterVersionErrors", drops.version),
        ("RouterChecksumErrors", drops.checksum),
    ]
}

/// The object that counts drops of this reason; empty where the RFC has none.
pub(super) fn of_drop(reason: &str) -> &'static str {
    match reason {
        "vrid" => "vrrpv3RouterVrIdErrors",
        "length" => "vrrpv3StatisticsPacketLengthErrors",
        "ttl" => "vrrpv3StatisticsIpTtlErrors",
        "version" => "vrrpv3RouterVersionErrors",
        "kind" => "vrrpv3StatisticsRcvdInvalidTypePackets",
        "checksum" => "vrrpv3RouterChecksumErrors",
        "interval" => "vrrpv3StatisticsAdvIntervalErrors",
        "address_list" => "vrrpv3StatisticsAddressListErrors",
        _ => "",
    }
}
