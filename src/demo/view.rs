//! What people see: a live picture on a terminal, plain lines elsewhere, then the table. Or JSON.

use crate::demo::client::ledger::{Ledger, Moment};
use crate::demo::measure::Outcome;
use crate::demo::watch::{Holder, Watch};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How results and progress are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Redrawn in place.
    Live,
    /// A line per event.
    Lines,
    /// One JSON object per fault and nothing else.
    Json,
}

impl Form {
    pub fn choose(json: bool) -> Form {
        match (json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Live,
            (false, false) => Form::Lines,
        }
    }
}

/// Writes to standard output. A reader that went away is no reason to stop measuring.
pub struct View {
    form: Form,
    live: Option<Live>,
}

/// The thread that redraws.
struct Live {
    words: Arc<Mutex<Words>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the picture says besides numbers.
#[derive(Default)]
struct Words {
    phase: String,
    /// To be printed above the picture, once.
    news: Vec<String>,
}

const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// Columns of the sparkline, one per redraw.
const HISTORY: usize = 60;
/// Lines of the picture.
const PICTURE_LINES: usize = 5;

impl View {
    pub fn new(form: Form) -> View {
        View { form, live: None }
    }

    /// Starts the picture, on a terminal.
    pub fn watch(&mut self, ledger: &Arc<Ledger>, watch: &Arc<Watch>) {
        if self.form != Form::Live || self.live.is_some() {
            return;
        }
        let (words, stop) = (Arc::new(Mutex::new(Words::default())), Arc::new(AtomicBool::new(false)));
        let mut picture = Picture::new(Arc::clone(ledger), Arc::clone(watch), Arc::clone(&words));
        let ends = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                print(&picture.draw());
                thread::sleep(REDRAW_EVERY);
            }
            print(&picture.erase());
        });
        self.live = Some(Live { words, stop, thread });
    }

    /// Says what happens now.
    pub fn phase(&self, text: &str) {
        match (&self.live, self.form) {
            (_, Form::Json) => {}
            (Some(live), _) => text.clone_into(&mut locked(&live.words).phase),
            (None, _) => print(&format!("{text}\n")),
        }
    }

    /// The result of one fault.
    pub fn outcome(&self, outcome: &Outcome) {
        match (&self.live, self.form) {
            (_, Form::Json) => print(&format!("{}\n", json(outcome))),
            (Some(live), _) => locked(&live.words).news.push(format!("{}: {}\n", outcome.fault, sentence(outcome))),
            (None, _) => print(&format!("  {}\n", sentence(outcome))),
        }
    }

    /// Ends the picture and prints the table.
    pub fn table(&mut self, outcomes: &[Outcome]) {
        self.end();
        if self.form != Form::Json {
            print(&table(outcomes));
        }
    }

    /// Ends the picture, so that plain text can follow.
    pub fn end(&mut self) {
        if let Some(live) = self.live.take() {
            live.stop.store(true, Ordering::Relaxed);
            drop(live.thread.join());
        }
    }
}

/// Plain text to standard output.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

struct Picture {
    ledger: Arc<Ledger>,
    watch: Arc<Watch>,
    words: Arc<Mutex<Words>>,
    last: (Moment, u64, u64),
    /// Answers and losses per redraw, oldest first.
    history: Vec<(u64, u64)>,
    is_drawn: bool,
}

impl Picture {
    fn new(ledger: Arc<Ledger>, watch: Arc<Watch>, words: Arc<Mutex<Words>>) -> Picture {
        let (good, lost) = ledger.totals();
        let last = (ledger.now(), good, lost);
        Picture { ledger, watch, words, last, history: Vec::new(), is_drawn: false }
    }

    fn draw(&mut self) -> String {
        let (good, lost) = self.ledger.totals();
        let now = self.ledger.now();
        let (then, good_then, lost_then) = std::mem::replace(&mut self.last, (now, good, lost));
        self.history.push((good - good_then, lost - lost_then));
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
        let seconds = (now - then).as_secs_f64().max(0.001);
        let per_second = (good - good_then) as f64 / seconds;
        let role = |node| match self.watch.holder() {
            Holder::Both => "\x1b[33mholds 10.77.0.10\x1b[0m",
            Holder::Node(holder) if holder == node => "\x1b[32mholds 10.77.0.10\x1b[0m",
            Holder::Node(_) | Holder::Nobody => "\x1b[2mstands by       \x1b[0m",
        };
        let (phase, news) = {
            let mut words = locked(&self.words);
            (words.phase.clone(), std::mem::take(&mut words.news))
        };
        let lines = [
            format!("  node-a  {}      node-b  {}", role(0), role(1)),
            format!("  {per_second:>6.0} answers/s   {good} answered   {lost} lost"),
            format!("  {}", sparkline(&self.history)),
            format!("  {phase}"),
            String::new(),
        ];
        let mut text = self.erase();
        text.extend(news);
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        self.is_drawn = true;
        text
    }

    fn erase(&self) -> String {
        if self.is_drawn { format!("\x1b[{PICTURE_LINES}A\x1b[J") } else { String::new() }
    }
}

/// A drawing thread that panicked left whole words behind.
fn locked(words: &Mutex<Words>) -> MutexGuard<'_, Words> {
    words.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Eight heights of answers; losses in red.
fn sparkline(history: &[(u64, u64)]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // Half again above the usual: the answers that arrive at once after an outage do not flatten the rest.
    let mut usual: Vec<u64> = history.iter().map(|(good, _)| *good).collect();
    usual.sort_unstable();
    let top = (usual.get(usual.len() / 2).copied().unwrap_or_default() * 3 / 2).max(1);
    history
        .iter()
        .map(|&(good, lost)| {
            let height = usize::try_from(good * 7 / top).unwrap_or_default().min(7);
            let bar = if good == 0 { ' ' } else { HEIGHTS.get(height).copied().unwrap_or('█') };
            if lost > 0 { format!("\x1b[31m{}\x1b[0m", if good == 0 { '×' } else { bar }) } else { bar.to_string() }
        })
        .collect()
}

fn sentence(outcome: &Outcome) -> String {
    let verdict = match &outcome.complaint {
        None => "survived".to_owned(),
        Some(complaint) => format!("NOT survived: {complaint}"),
    };
    let learned = match outcome.long_lived_notice {
        Some(notice) => format!("long-lived connections learned after {} ms", notice.as_millis()),
        None => "no long-lived connection broke".to_owned(),
    };
    format!("{verdict}; {} requests lost, gap {:.1} ms, {learned}", outcome.lost_requests, millis(outcome.gap))
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<14}{:<10}{:>15}{:>10}{:>24}\n",
        "fault", "survived", "requests lost", "gap ms", "long-lived learned ms"
    );
    for outcome in outcomes {
        let learned = outcome.long_lived_notice.map_or("-".to_owned(), |notice| notice.as_millis().to_string());
        text.push_str(&format!(
            "{:<14}{:<10}{:>15}{:>10.1}{:>24}\n",
            outcome.fault.name(),
            if outcome.survived { "yes" } else { "NO" },
            outcome.lost_requests,
            millis(outcome.gap),
            learned
        ));
        if let Some(complaint) = &outcome.complaint {
            text.push_str(&format!("              {complaint} {:?}\n", outcome.losses));
        }
    }
    text
}

/// The object of `--json`; `long_lived_notice_ms` is null when none broke.
fn json(outcome: &Outcome) -> serde_json::Value {
    let tenths = |duration| (millis(duration) * 10.0).round() / 10.0;
    serde_json::json!({
        "fault": outcome.fault.name(),
        "survived": outcome.survived,
        "lost_requests": outcome.lost_requests,
        "gap_ms": tenths(outcome.gap),
        "long_lived_notice_ms": outcome.long_lived_notice.map(tenths),
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Fault;
    use std::collections::BTreeMap;

    fn outcome() -> Outcome {
        Outcome {
            fault: Fault::WorkerCrash,
            survived: true,
            lost_requests: 3,
            gap: Duration::from_micros(8_449),
            noise: Duration::ZERO,
            long_lived_notice: None,
            complaint: None,
            losses: BTreeMap::new(),
        }
    }

    #[test]
    fn json_has_exactly_the_documented_fields() {
        assert_eq!(
            json(&outcome()).to_string(),
            r#"{"fault":"worker-crash","gap_ms":8.4,"long_lived_notice_ms":null,"lost_requests":3,"survived":true}"#
        );
    }

    #[test]
    fn the_table_names_every_fault_and_explains_what_was_not_survived() {
        let bad = Outcome { survived: false, complaint: Some("nobody holds the address".to_owned()), ..outcome() };
        let text = table(&[outcome(), bad]);
        assert_eq!(text.matches("worker-crash").count(), 2);
        assert!(text.contains("NO ") && text.contains("nobody holds the address"));
    }
}
