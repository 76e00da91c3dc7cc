//! Judges a router that does not preempt by what its own node's kernel recorded. Pure.
//!
//! Two Actives at once are always somebody's fault: the loser heard the winner and went on, or the winner fell silent,
//! or somebody took over from an Active that it heard. The judge looks only for what the accused did itself, counts
//! adverts where it can, and where a time must be judged (silence, an address that is kept) it takes off what the
//! machine is known to have stolen. So a peer that was starved condemns nobody, and there is no allowance to hide in.

use super::strain::Strain;
use std::net::IpAddr;
use std::time::Duration;

/// One line of the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    /// Of the wall clock, by the kernel; address changes and interruptions are noted a moment late.
    pub at: Duration,
    pub note: Note,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Another router's advert arrived.
    Heard {
        source: IpAddr,
        priority: u8,
        interval: Duration,
    },
    Sent {
        source: IpAddr,
        priority: u8,
    },
    /// By gratuitous ARP or an unsolicited neighbour advertisement.
    Announced(IpAddr),
    Gained(IpAddr),
    Lost(IpAddr),
    /// The test is about to end the program or to take its cable: nothing is expected of it.
    Excused,
    /// The test is about to start the program or to mend its cable: what it hears counts from here on.
    Interrupted,
}

/// What the accused was configured to be.
#[derive(Clone, Debug)]
pub struct Rules {
    pub priority: u8,
    pub interval: Duration,
    pub addresses: Vec<IpAddr>,
    /// May take over from a living Active of lower priority.
    pub preempts: bool,
    /// Version 2 counts the skew time in fractions of a second, whatever the interval.
    pub is_version_2: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// More than the one advert that may have been under way when the winner's came in.
    SpokeOn {
        outranked: Duration,
        at: Duration,
    },
    /// Sent as Active though the other Active was heard less than a down interval (after its release: a skew time) ago.
    TookOverFromTheLiving {
        heard: Duration,
        at: Duration,
    },
    /// Sent as Active less than a down interval after it began to listen.
    TookOverUnheard {
        since: Duration,
        at: Duration,
    },
    /// Two adverts in a row left out, and the machine was not to blame.
    FellSilent {
        from: Duration,
        until: Duration,
        strain: Duration,
    },
    /// The address outlived its owner's defeat by more than an interval.
    KeptAddress {
        address: IpAddr,
        outranked: Duration,
        until: Duration,
        strain: Duration,
    },
    AnnouncedWithoutAddress {
        address: IpAddr,
        at: Duration,
    },
}

/// All faults in a record that is in order of time and reaches until `end`.
pub fn judge(record: &[Noted], rules: &Rules, strain: &Strain, end: Duration) -> Vec<Fault> {
    let mut judge =
        Judge { rules, strain, faults: Vec::new(), stand: Stand::listening(None), held: Vec::new(), owed: Vec::new() };
    for noted in record {
        judge.collect(noted.at);
        judge.take(noted);
    }
    judge.collect(end);
    judge.faults
}

/// From a decision to the frame on the wire, when the machine runs.
const UNDER_WAY: Duration = Duration::from_micros(500);

struct Judge<'a> {
    rules: &'a Rules,
    strain: &'a Strain,
    faults: Vec<Fault>,
    stand: Stand,
    /// Virtual addresses on the interface.
    held: Vec<IpAddr>,
    /// Virtual addresses that have to go, and since when.
    owed: Vec<(IpAddr, Duration)>,
}

#[derive(Clone, Copy)]
enum Stand {
    /// Listening `since` the last interruption.
    Backup {
        since: Option<Duration>,
        heard: Option<Heard>,
        released: Option<Duration>,
        defeat: Option<Defeat>,
    },
    Active {
        sent: Duration,
        source: IpAddr,
        priority: u8,
    },
    /// Not judged.
    Excused,
}

/// Of a reign that ended because another router's advert outranked ours.
#[derive(Clone, Copy)]
struct Defeat {
    at: Duration,
    /// The advert that may have been under way has been seen.
    is_excused: bool,
}

#[derive(Clone, Copy)]
struct Heard {
    at: Duration,
    source: IpAddr,
    interval: Duration,
}

impl Judge<'_> {
    fn take(&mut self, noted: &Noted) {
        let at = noted.at;
        match noted.note {
            Note::Sent { source, priority } => self.sent(at, source, priority),
            Note::Heard { source, priority, interval } => self.heard(Heard { at, source, interval }, priority),
            Note::Announced(address) => {
                let is_backup = matches!(self.stand, Stand::Backup { .. });
                if self.is_virtual(address) && is_backup && !self.held.contains(&address) {
                    self.faults.push(Fault::AnnouncedWithoutAddress { address, at });
                }
            }
            Note::Gained(address) if self.is_virtual(address) && !self.held.contains(&address) => {
                self.held.push(address);
            }
            Note::Gained(_) => {}
            Note::Lost(address) => {
                self.held.retain(|held| *held != address);
                self.owed.retain(|(owed, _)| *owed != address);
            }
            Note::Excused => {
                self.owed.clear();
                self.stand = Stand::Excused;
            }
            Note::Interrupted => {
                self.owed.clear();
                self.stand = Stand::listening(Some(at));
            }
        }
    }

    fn sent(&mut self, at: Duration, source: IpAddr, priority: u8) {
        match self.stand {
            Stand::Active { sent, .. } => {
                let lost = self.strain.within(sent..at);
                if (at - sent).saturating_sub(lost) >= self.rules.interval * 2 {
                    self.faults.push(Fault::FellSilent { from: sent, until: at, strain: lost });
                }
            }
            Stand::Excused => return,
            // A release by who is not Active changes nothing.
            Stand::Backup { .. } if priority == 0 => return,
            Stand::Backup { since: Some(since), heard: None, .. } if at < self.listens_until(since) => {
                self.faults.push(Fault::TookOverUnheard { since, at });
            }
            // It came when the decision was made already and the machine kept ours from leaving.
            Stand::Backup { heard: Some(heard), .. } if self.was_under_way(heard.at, at) => self.owed.clear(),
            Stand::Backup { since, heard: Some(heard), released, defeat }
                if at < self.takes_over_from(heard, released) =>
            {
                let defeat = match defeat {
                    Some(Defeat { at, is_excused: false }) => Some(Defeat { at, is_excused: true }),
                    Some(Defeat { at: outranked, .. }) => {
                        self.faults.push(Fault::SpokeOn { outranked, at });
                        defeat
                    }
                    None if self.rules.preempts => {
                        self.stand = Stand::Active { sent: at, source, priority };
                        return;
                    }
                    None => {
                        self.faults.push(Fault::TookOverFromTheLiving { heard: heard.at, at });
                        None
                    }
                };
                self.stand = Stand::Backup { since, heard: Some(heard), released, defeat };
                return;
            }
            Stand::Backup { .. } => self.owed.clear(),
        }
        self.stand = Stand::Active { sent: at, source, priority };
    }

    fn heard(&mut self, heard: Heard, of_priority: u8) {
        match (&mut self.stand, of_priority) {
            (Stand::Active { .. }, 0) | (Stand::Excused, _) => {}
            (Stand::Active { sent, source, priority }, _) => {
                let outranks = (of_priority, heard.source) > (*priority, *source);
                // Silent for so long that somebody may have taken over: who does not preempt must not come back.
                let danger = self.rules.interval * 3 + self.rules.skew(254, self.rules.interval);
                let was_replaced = heard.at - *sent >= danger && !self.rules.preempts;
                if outranks || was_replaced {
                    let defeat = Some(Defeat { at: heard.at, is_excused: false });
                    self.stand = Stand::Backup { since: None, heard: Some(heard), released: None, defeat };
                    self.owed = self.held.iter().map(|address| (*address, heard.at)).collect();
                }
            }
            (Stand::Backup { heard: Some(known), released, .. }, 0) if known.source == heard.source => {
                released.get_or_insert(heard.at);
            }
            (Stand::Backup { .. }, 0) => {}
            (Stand::Backup { heard: known, released, .. }, _) => {
                *known = Some(heard);
                *released = None;
            }
        }
    }

    /// Whether all of this span was lost to the machine, but for a moment.
    fn was_under_way(&self, heard: Duration, sent: Duration) -> bool {
        let lost = self.strain.within(heard..sent);
        !lost.is_zero() && (sent - heard).saturating_sub(lost) <= UNDER_WAY
    }

    /// The first moment at which a Backup may believe that the Active is gone.
    fn takes_over_from(&self, heard: Heard, released: Option<Duration>) -> Duration {
        let skew = self.rules.skew(self.rules.priority, heard.interval);
        released.map_or(heard.at + heard.interval * 3 + skew, |at| at + skew)
    }

    /// How long a start has to listen; the owner need not.
    fn listens_until(&self, since: Duration) -> Duration {
        match self.rules.priority {
            255 => since,
            priority => since + self.rules.interval * 3 + self.rules.skew(priority, self.rules.interval),
        }
    }

    /// Condemns for every address that is still there after its time.
    fn collect(&mut self, now: Duration) {
        let (rules, strain, faults) = (self.rules, self.strain, &mut self.faults);
        self.owed.retain(|&(address, outranked)| {
            let lost = strain.within(outranked..now);
            let is_overdue = (now.saturating_sub(outranked)).saturating_sub(lost) > rules.interval;
            if is_overdue {
                faults.push(Fault::KeptAddress { address, outranked, until: now, strain: lost });
            }
            !is_overdue
        });
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        self.rules.addresses.contains(&address)
    }
}

impl Stand {
    fn listening(since: Option<Duration>) -> Stand {
        Stand::Backup { since, heard: None, released: None, defeat: None }
    }
}

impl Rules {
    /// RFC 9568 §6.1, RFC 3768 §6.1.
    pub fn skew(&self, priority: u8, interval: Duration) -> Duration {
        let whole = if self.is_version_2 { Duration::from_secs(1) } else { interval };
        whole * (256 - u32::from(priority)) / 256
    }
}
