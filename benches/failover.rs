//! Failover gaps of Lyre and of keepalived + HAProxy, on the same wires in one run, seen by the same clients.
//!
//! `cargo bench --bench failover` (root, for keepalived's scripts; packages keepalived, haproxy, wrk, iproute2).
//! - `LYRE_BENCH_RUNS` (20): runs of every case. The contenders take turns, run by run.
//! - `LYRE_BENCH_SATURATE_SECONDS` (180): how long both cores are saturated for the false-failover count; 0 skips it.
//! - `LYRE_BENCH_DAEMON_RUNS` (10): runs of every case of the daemons without a proxy; 0 skips them.
//! - `LYRE_BENCH_ONLY` (`lyre`, `keepalived` or `daemons`): one part only; nothing is written then.
//! - `LYRE_BIN` (target/dist/lyre): the binary of Lyre's side.
//!
//! The tables go to docs/bench/failover.md, above what is written there by hand; every single run to docs/bench/failover.jsonl.

#[path = "failover/daemon.rs"]
mod daemon;
#[path = "failover/metronome.rs"]
mod metronome;
mod notes;
mod shipped;

use lyre::demo::contender::Contender;
use lyre::demo::contender::keepalived::{self, KeepalivedHaproxy};
use lyre::demo::contender::lyre::Lyre;
use lyre::demo::identity::Identity;
use lyre::demo::lab::{Lab, VIRTUAL_V4};
use lyre::demo::measure::{Outcome, percentile};
use lyre::demo::rig::{PLAIN_PORT, Pace, Rig};
use lyre::demo::view::print;
use lyre::demo::{DemoError, Fault, sandbox, within};
use metronome::Metronome;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The probe's requests a second: the gap's resolution is a millisecond.
const RATE: u32 = 1000;

/// Short, because nothing here takes effect late: a service that is gone is waited for anyway.
const OBSERVE: Duration = Duration::from_secs(1);

/// One pair in one configuration, and what is done to it.
struct Setup {
    contender: Kind,
    advert_ms: u64,
    faults: &'static [Fault],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lyre,
    /// HAProxy stays dead; the script finds out.
    Keepalived,
    /// A service manager starts HAProxy again after 100 ms.
    KeepalivedRestarting,
}

const SETUPS: [Setup; 6] = [
    Setup { contender: Kind::Lyre, advert_ms: 10, faults: &[Fault::Cable] },
    Setup { contender: Kind::Keepalived, advert_ms: 10, faults: &[Fault::Cable] },
    Setup { contender: Kind::Lyre, advert_ms: 100, faults: &[Fault::Cable, Fault::WorkerCrash, Fault::Planned] },
    Setup { contender: Kind::Keepalived, advert_ms: 100, faults: &[Fault::Cable, Fault::WorkerCrash, Fault::Planned] },
    Setup { contender: Kind::KeepalivedRestarting, advert_ms: 100, faults: &[Fault::WorkerCrash] },
    Setup { contender: Kind::Keepalived, advert_ms: 1000, faults: &[Fault::Cable] },
];

/// One measured fault.
struct Run {
    contender: Kind,
    advert_ms: u64,
    outcome: Outcome,
}

/// What both cores at their limit did to the pair.
struct Saturation {
    contender: Kind,
    seconds: u64,
    seen: metronome::Seen,
    idle_percent: f64,
    /// What the hypervisor took of the processors meanwhile.
    stolen_ms: u64,
    requests_per_second: String,
}

/// Of all processors, in clock ticks.
#[derive(Clone, Copy)]
struct Ticks {
    /// With waiting for disks.
    idle: u64,
    stolen: u64,
    total: u64,
}

fn main() -> ExitCode {
    match within(|_| bench()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            print(&format!("bench-failover: {error}\n"));
            ExitCode::from(2)
        }
    }
}

fn bench() -> Result<bool, DemoError> {
    let runs = number("LYRE_BENCH_RUNS", 20);
    let seconds = number("LYRE_BENCH_SATURATE_SECONDS", 180);
    let only = std::env::var("LYRE_BENCH_ONLY").ok();
    let takes_part = |kind: Kind| match only.as_deref() {
        Some("lyre") => kind == Kind::Lyre,
        Some("keepalived") => kind != Kind::Lyre,
        Some("daemons") => false,
        _ => true,
    };
    let lab = Arc::new(Lab::build()?);
    let identity = Identity::make(&sandbox::run_dir())?;
    let mut measured = Vec::new();
    for run in 1..=runs {
        for setup in SETUPS.iter().filter(|setup| takes_part(setup.contender)) {
            measured.extend(suffer(&lab, &identity, setup, run)?);
        }
    }
    let mut saturations = Vec::new();
    for kind in [Kind::Lyre, Kind::Keepalived].into_iter().filter(|kind| seconds > 0 && takes_part(*kind)) {
        saturations.push(saturate(&lab, &identity, kind, seconds)?);
    }
    let daemon_runs = number("LYRE_BENCH_DAEMON_RUNS", 10);
    let daemons = match only.as_deref() {
        None | Some("daemons") if daemon_runs > 0 => daemon::bench(&lab, daemon_runs)?,
        _ => String::new(),
    };
    let report = report(runs, &measured, &saturations) + &daemons;
    print(&report);
    if only.is_none() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bench");
        notes::save(&directory.join("failover.md"), &report)
            .map_err(DemoError::lab("writing docs/bench/failover.md"))?;
        std::fs::write(directory.join("failover.jsonl"), raw(&measured))
            .map_err(DemoError::lab("writing docs/bench/failover.jsonl"))?;
    }
    Ok(measured.iter().all(|run| run.contender != Kind::Lyre || run.outcome.survived))
}

/// Starts one pair, does everything to it once, and stops it.
fn suffer(lab: &Arc<Lab>, identity: &Identity, setup: &Setup, run: u64) -> Result<Vec<Run>, DemoError> {
    let mut rig = start(lab, identity, setup.contender, setup.advert_ms, RATE)?;
    let mut measured = Vec::new();
    for &fault in setup.faults {
        let holder = rig.converge()?;
        let outcome = rig.suffer(fault, holder)?;
        print(&format!(
            "run {run:>2}  {:<42} {:<13} gap {:>7.1} ms  lost {:>4}  {}\n",
            label(setup.contender, setup.advert_ms),
            fault.name(),
            millis(outcome.gap),
            outcome.lost_requests,
            outcome.complaint.as_deref().unwrap_or_default()
        ));
        rig.heal(fault, holder)?;
        measured.push(Run { contender: setup.contender, advert_ms: setup.advert_ms, outcome });
    }
    rig.stop()?;
    Ok(measured)
}

fn start(lab: &Arc<Lab>, identity: &Identity, kind: Kind, advert_ms: u64, rate: u32) -> Result<Rig, DemoError> {
    let advert_interval = Duration::from_millis(advert_ms);
    let peers = |restarts_proxy| {
        let settings = keepalived::Settings { advert_interval, restarts_proxy };
        KeepalivedHaproxy::new(lab, identity, settings).map(|pair| Box::new(pair) as Box<dyn Contender>)
    };
    let pair = match kind {
        Kind::Lyre => Box::new(Lyre::new(
            lab,
            identity,
            &shipped::lyre().map_err(DemoError::lab("finding lyre"))?,
            advert_interval,
        )?),
        Kind::Keepalived => peers(false)?,
        Kind::KeepalivedRestarting => peers(true)?,
    };
    Rig::start(
        lab,
        identity,
        pair,
        Pace {
            rate,
            advert_interval,
            slack: Duration::from_millis(lyre::demo::fault::SLACK_MS),
            with_transfers: false,
            observe: OBSERVE,
        },
    )
}

/// 10 ms adverts, and wrk through the proxy with all the cores it gets.
fn saturate(lab: &Arc<Lab>, identity: &Identity, kind: Kind, seconds: u64) -> Result<Saturation, DemoError> {
    let mut rig = start(lab, identity, kind, 10, 50)?;
    rig.converge()?;
    let metronome = Metronome::start(&lab.nodes);
    let before = processor_time();
    let mut wrk = sandbox::outsider("wrk");
    wrk.args(["-t2", "-c128", &format!("-d{seconds}s"), "-H", "Host: cloud.demo"]);
    wrk.arg(format!("http://{VIRTUAL_V4}:{PLAIN_PORT}/apps/files")).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = lab.client.spawn(&mut wrk)?.wait_with_output().map_err(DemoError::lab("waiting for wrk"))?;
    let after = processor_time();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = metronome.finish().map_err(DemoError::lab("watching the machine and the address"))?;
    if seen.moves > seen.explained {
        print(&format!("{}\n", rig.last_words()));
    }
    rig.stop()?;
    let saturation = Saturation {
        contender: kind,
        seconds,
        seen,
        idle_percent: 100.0 * (after.idle - before.idle) as f64 / ((after.total - before.total) as f64).max(1.0),
        // A tick is 10 ms on every Linux that reports to programs.
        stolen_ms: (after.stolen - before.stolen) * 10,
        requests_per_second: text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Requests/sec:"))
            .unwrap_or("?")
            .trim()
            .to_owned(),
    };
    print(&format!("saturated {}: {seen:?}\n", label(kind, 10)));
    Ok(saturation)
}

fn processor_time() -> Ticks {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    Ticks {
        idle: ticks.iter().skip(3).take(2).sum(),
        stolen: ticks.get(7).copied().unwrap_or_default(),
        total: ticks.iter().sum(),
    }
}

fn report(runs: u64, measured: &[Run], saturations: &[Saturation]) -> String {
    let mut text = String::from(
        "# Failover, measured by the clients\n\n\
         Written by `make bench-failover`. Both pairs run on the same virtual wires in the same run and take turns; \
         the clients ask a thousand times a second, each request on a new connection, and eight keep-alive TLS clients \
         20 times a second each. Gap: longest time between two answers around the fault, less the probe's interval. \
         Noise: the longest such time in the half second before the fault, which is the machine's share. \
         Lost: requests without a complete, correct answer within 2 s; nobody retries.\n\n",
    );
    let _ = writeln!(text, "{}\n", conditions(runs));
    text.push_str(
        "| fault | pair | gap p50 ms | p95 | max | noise p50 | lost p50 | lost max | runs | not survived |\n",
    );
    text.push_str("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
    for fault in Fault::ALL {
        for setup in SETUPS.iter().filter(|setup| setup.faults.contains(&fault)) {
            let of: Vec<&Outcome> = measured
                .iter()
                .filter(|run| run.contender == setup.contender && run.advert_ms == setup.advert_ms)
                .map(|run| &run.outcome)
                .filter(|outcome| outcome.fault == fault)
                .collect();
            if of.is_empty() {
                continue;
            }
            let gaps: Vec<Duration> = of.iter().map(|outcome| outcome.gap).collect();
            let noises: Vec<Duration> = of.iter().map(|outcome| outcome.noise).collect();
            let mut lost: Vec<u64> = of.iter().map(|outcome| outcome.lost_requests).collect();
            lost.sort_unstable();
            let [p50, p95, max] = [50, 95, 100].map(|percent| millis(percentile(&gaps, percent)));
            let _ = writeln!(
                text,
                "| {fault} | {} | {p50:.1} | {p95:.1} | {max:.1} | {:.1} | {} | {} | {} | {} |",
                label(setup.contender, setup.advert_ms),
                millis(percentile(&noises, 50)),
                lost.get((lost.len() - 1) / 2).copied().unwrap_or_default(),
                lost.last().copied().unwrap_or_default(),
                of.len(),
                of.iter().filter(|outcome| !outcome.survived).count(),
            );
        }
    }
    if !saturations.is_empty() {
        text.push_str("\n## False failovers with all cores saturated, 10 ms adverts\n\n");
        text.push_str(
            "A processor stands still when a thread of the highest real-time priority gets none of it for 18 ms: the \
             hypervisor took it away. An Active on it has then missed its adverts, which nobody can tell from a death.\n\n\
             | pair | seconds | moves of the address | of these after a standstill | standstills, longest ms | processors idle | stolen ms | wrk requests/s |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|\n",
        );
    }
    for saturation in saturations {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {}, {:.0} | {:.1} % | {} | {} |",
            label(saturation.contender, 10),
            saturation.seconds,
            saturation.seen.moves,
            saturation.seen.explained,
            saturation.seen.standstills,
            millis(saturation.seen.longest),
            saturation.idle_percent,
            saturation.stolen_ms,
            saturation.requests_per_second
        );
    }
    text
}

fn conditions(runs: u64) -> String {
    let said = |program: &str, arguments: &[&str]| {
        Command::new(program)
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .map(|output| [output.stdout, output.stderr].concat())
            .map(|text| String::from_utf8_lossy(&text).lines().next().unwrap_or("?").trim().to_owned())
            .unwrap_or_else(|_| "not installed".to_owned())
    };
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, model)| model.trim()))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "- Machine: {model}, {cores} cores; kernel {}; everything, clients included, shares these cores.\n\
         - Versions: Lyre {} ({}), {}, {}.\n\
         - keepalived: nopreempt, 254/253, `track_script` on HAProxy every 2 s, notify script; \
           planned = `systemctl stop keepalived`'s SIGTERM. Lyre: defaults but for the advert interval; planned = `lyre failover`.\n\
         - Command: `LYRE_BENCH_RUNS={runs} make bench-failover`.",
        said("uname", &["-r"]),
        env!("CARGO_PKG_VERSION"),
        said("git", &["rev-parse", "--short", "HEAD"]),
        said("keepalived", &["--version"]),
        said("haproxy", &["-v"]),
    )
}

fn raw(measured: &[Run]) -> String {
    measured
        .iter()
        .map(|run| {
            let object = serde_json::json!({
                "pair": label(run.contender, run.advert_ms),
                "fault": run.outcome.fault.name(),
                "gap_ms": (millis(run.outcome.gap) * 10.0).round() / 10.0,
                "noise_ms": (millis(run.outcome.noise) * 10.0).round() / 10.0,
                "lost_requests": run.outcome.lost_requests,
                "survived": run.outcome.survived,
            });
            format!("{object}\n")
        })
        .collect()
}

fn label(kind: Kind, advert_ms: u64) -> String {
    let name = match kind {
        Kind::Lyre => "Lyre",
        Kind::Keepalived => "keepalived + HAProxy",
        Kind::KeepalivedRestarting => "keepalived + HAProxy, restarted by systemd",
    };
    format!("{name}, {advert_ms} ms")
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
