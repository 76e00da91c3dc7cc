//! Pool view to peer: the less loaded of two random choices among the servers that may take a request.
//!
//! Two choices need no exact global order, and the counters they compare are shared by all cores, so independent cores
//! do not herd onto one server the way "always the least" makes them.

/// One server at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Healthy, not ejected, not draining.
    pub is_usable: bool,
    /// Already tried for this request.
    pub is_excluded: bool,
    /// Requests in progress over all cores.
    pub outstanding: u32,
    /// Requests it may have in progress.
    pub capacity: u32,
    /// Share of the load relative to its siblings; 0 counts as 1.
    pub weight: u32,
}

impl Candidate {
    fn is_eligible(&self) -> bool {
        self.is_usable && !self.is_excluded
    }

    fn has_room(&self) -> bool {
        self.outstanding < self.capacity
    }

    /// Compares outstanding per weight without dividing.
    fn is_less_loaded_than(&self, other: &Candidate) -> bool {
        u64::from(self.outstanding) * u64::from(other.weight.max(1))
            < u64::from(other.outstanding) * u64::from(self.weight.max(1))
    }
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Index of the server.
    Peer(usize),
    /// All eligible servers are full: wait for a slot, within bounds.
    Queue,
    /// No server may be asked.
    None,
}

/// Picks among `servers` candidates, read through `view` so that no snapshot has to be copied. `random` is any
/// uniformly distributed number; both choices come from it.
pub fn pick(servers: usize, view: impl Fn(usize) -> Candidate, random: u64) -> Pick {
    let is_open = |index: &usize| {
        let candidate = view(*index);
        candidate.is_eligible() && candidate.has_room()
    };
    let open = (0..servers).filter(is_open).count() as u64;
    if open == 0 {
        let is_full = (0..servers).any(|index| view(index).is_eligible());
        return if is_full { Pick::Queue } else { Pick::None };
    }
    // Two different positions among the open ones, from the two halves of the number. Counters move while we look
    // (other cores), so a position may be gone by now; the last open one stands in.
    let one = (random >> 32) % open;
    let other = (one + 1 + (random & u64::from(u32::MAX)) % (open - 1).max(1)) % open;
    let nth = |n: u64| (0..servers).filter(is_open).nth(n as usize);
    match (nth(one), nth(other)) {
        (Some(one), Some(other)) if view(other).is_less_loaded_than(&view(one)) => Pick::Peer(other),
        (Some(one), _) => Pick::Peer(one),
        (None, Some(other)) => Pick::Peer(other),
        (None, None) => Pick::Queue,
    }
}

/// The usable server with the highest score, full or not: for requests that only one server is right for.
pub fn pick_best(servers: usize, view: impl Fn(usize) -> Candidate, score: impl Fn(usize) -> u64) -> Pick {
    let best = (0..servers).filter(|index| view(*index).is_eligible()).max_by_key(|index| score(*index));
    match best {
        Some(index) if view(index).has_room() => Pick::Peer(index),
        Some(_) => Pick::Queue,
        None => Pick::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Candidate = Candidate { is_usable: true, is_excluded: false, outstanding: 0, capacity: 10, weight: 1 };

    fn pick_of(list: &[Candidate], random: u64) -> Pick {
        pick(list.len(), |index| list[index], random)
    }

    /// Counts of picks per server over many random numbers.
    fn spread(list: &[Candidate]) -> Vec<u32> {
        let mut counts = vec![0; list.len()];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..10_000 {
            if let Pick::Peer(index) = pick_of(list, random.u64(..)) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn of_two_servers_the_less_loaded_one_always_wins() {
        let busy = Candidate { outstanding: 5, ..IDLE };
        assert_eq!(spread(&[busy, IDLE]), [0, 10_000]);
    }

    #[test]
    fn equal_servers_share_evenly_and_the_worst_of_three_gets_nothing() {
        assert!(spread(&[IDLE; 4]).iter().all(|count| (2_300..2_700).contains(count)));
        let [worst, ..] = spread(&[Candidate { outstanding: 9, ..IDLE }, IDLE, IDLE])[..] else { unreachable!() };
        assert_eq!(worst, 0);
    }

    #[test]
    fn the_best_server_is_waited_for_and_replaced_only_when_it_is_down() {
        let best = |list: &[Candidate]| pick_best(list.len(), |index| list[index], |index| [1, 3, 2][index]);
        let (full, down) = (Candidate { outstanding: 10, ..IDLE }, Candidate { is_usable: false, ..IDLE });
        assert_eq!(best(&[IDLE, IDLE, IDLE]), Pick::Peer(1));
        assert_eq!(best(&[IDLE, full, IDLE]), Pick::Queue);
        assert_eq!(best(&[IDLE, down, IDLE]), Pick::Peer(2));
        assert_eq!(best(&[down, down, down]), Pick::None);
    }

    #[test]
    fn load_is_relative_to_weight() {
        let large = Candidate { outstanding: 5, weight: 4, ..IDLE };
        let small = Candidate { outstanding: 2, weight: 1, ..IDLE };
        assert_eq!(spread(&[large, small]), [10_000, 0]);
    }

    #[test]
    fn unusable_excluded_and_full_servers_are_never_picked() {
        let down = Candidate { is_usable: false, ..IDLE };
        let tried = Candidate { is_excluded: true, ..IDLE };
        let full = Candidate { outstanding: 10, ..IDLE };
        assert_eq!(spread(&[down, tried, full, IDLE, down]), [0, 0, 0, 10_000, 0]);
        assert_eq!(pick_of(&[down, tried], 3), Pick::None);
        assert_eq!(pick_of(&[down, full], 3), Pick::Queue);
        assert_eq!(pick_of(&[], 3), Pick::None);
    }
}
