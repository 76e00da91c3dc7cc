//! `lyre demo`: a whole pair on one machine, in namespaces it makes itself, broken in turn.
//!
//! Reading order: [`sandbox`] (the fence around it all), [`lab`] (hosts and wires), [`backends`] (the web servers),
//! [`contender`] (what runs on the nodes), [`client`] (what people notice), [`watch`] (who holds the address),
//! [`fault`], [`measure`] (what it cost), [`rig`] (break, measure, heal), [`view`].
//! The bench and the tests use the same laboratory with keepalived and HAProxy in Lyre's place.

pub mod backends;
pub mod client;
pub mod contender;
pub mod error;
pub mod fault;
pub mod identity;
pub mod lab;
pub mod measure;
pub mod pattern;
pub mod rig;
pub mod sandbox;
pub mod view;
pub mod watch;

use contender::lyre::Lyre;
use identity::Identity;
use lab::{Host, Lab, VIRTUAL_V4, VIRTUAL_V6};
use rig::{PLAIN_PORT, Pace, Rig, TLS_PORT};
use sandbox::{Inside, Place};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use view::{Form, View};

pub use error::DemoError;
pub use fault::Fault;

/// `lyre demo` as typed.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Break only this (repeatable; default: everything in turn)
    #[arg(long = "fault", value_name = "NAME", value_enum)]
    pub faults: Vec<Fault>,
    /// Print one JSON object per fault instead of the live view and the table
    #[arg(long)]
    pub json: bool,
    /// Leave the pair running, print its address and how to poke it, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// New connections per second, each with one request, that measure the gap
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub rate: u32,
    /// Milliseconds between adverts of the pair
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=40_000))]
    pub advert_ms: u64,
    /// Milliseconds a busy machine may add to what each fault may cost
    #[arg(long, value_name = "MS", default_value_t = fault::SLACK_MS)]
    pub slack_ms: u64,
}

/// Runs the demo. `true`: every fault was survived.
///
/// Runs this program again, with the same arguments, inside the sandbox; so must be called before any thread is
/// started, and by the same path each time.
pub fn run(options: Options) -> Result<bool, DemoError> {
    within(|inside| direct(&options, inside))
}

/// Runs `work` inside the sandbox, and in other processes whatever the sandbox needs there. `Ok(true)` is success.
pub fn within(work: impl FnOnce(Inside) -> Result<bool, DemoError>) -> Result<bool, DemoError> {
    match sandbox::enter()? {
        Place::Outside(went_well) => Ok(went_well),
        Place::Inside(inside) => work(inside),
        Place::Web(words) => match words.as_slice() {
            [name, address] => {
                let address = address.parse().map_err(|error| DemoError::Command {
                    command: format!("web {address}"),
                    said: format!("{error}"),
                })?;
                backends::serve(name, address).map_err(DemoError::lab("serving as a web server")).map(|()| true)
            }
            _ => Err(DemoError::Command { command: "web".to_owned(), said: "expects name and address".to_owned() }),
        },
    }
}

fn direct(options: &Options, inside: Inside) -> Result<bool, DemoError> {
    let mut view = View::new(Form::choose(options.json));
    let advert_interval = Duration::from_millis(options.advert_ms);
    view.phase("building the laboratory: a switch, two nodes, two web servers, a client");
    let lab = Arc::new(Lab::build()?);
    let identity = Identity::make(&sandbox::run_dir())?;
    let pair = Lyre::new(&lab, &identity, Path::new("/proc/self/exe"), advert_interval)?;
    let pace = Pace {
        rate: options.rate,
        advert_interval,
        slack: Duration::from_millis(options.slack_ms),
        with_transfers: true,
        observe: Duration::from_secs(2),
    };
    let mut rig = Rig::start(&lab, &identity, Box::new(pair), pace)?;
    view.watch(rig.ledger(), rig.watch());
    view.phase("waiting for the pair");
    let mut holder = rig.converge()?;
    if options.keep {
        view.end();
        return keep(&lab, inside);
    }
    let faults = if options.faults.is_empty() { &Fault::ALL } else { options.faults.as_slice() };
    let mut outcomes = Vec::new();
    for &fault in faults {
        view.phase(fault.sentence());
        let outcome = rig.suffer(fault, holder)?;
        view.outcome(&outcome);
        outcomes.push(outcome);
        view.phase("healing");
        rig.heal(fault, holder)?;
        holder = rig.converge()?;
    }
    view.table(&outcomes);
    if std::env::var_os("LYRE_DEMO_LOGS").is_some() {
        view::print(&rig.last_words());
    }
    rig.stop()?;
    Ok(outcomes.iter().all(|outcome| outcome.survived))
}

/// Says how to poke the pair and waits to be ended.
fn keep(lab: &Lab, inside: Inside) -> Result<bool, DemoError> {
    let own_pid = inside.host_pid;
    let user = if inside.in_user_namespace { " -U --preserve-credentials" } else { "" };
    let enter = |host: &Host| {
        let network = host.namespace_path(u32::try_from(own_pid).unwrap_or_default());
        format!("nsenter -t {own_pid}{user} -m -p --net={network}")
    };
    let [a, b] = &lab.nodes;
    let [one, two] = &lab.web;
    let name = identity::NAME;
    view::print(&format!(
        "The pair serves https://{VIRTUAL_V4}:{TLS_PORT} and https://[{VIRTUAL_V6}]:{TLS_PORT} (name {name}), plain on port {PLAIN_PORT}.\n\n\
         A shell on a machine of the laboratory:\n  \
           client  {}\n  node-a  {}\n  node-b  {}\n  web-1   {}\n  web-2   {}\n  switch  nsenter -t {own_pid}{user} -m -p -n\n\n\
         From the client:  curl -k --connect-to ::{VIRTUAL_V4}:{TLS_PORT} https://{name}/status.php\n\
         On the switch:    ip link set node-a down    (pull a cable; `up` plugs it in again)\n\
         On node-a:        lyre status --config {config}\n  \
                           lyre failover --config {config}\n\n\
         Ctrl-C ends everything.\n",
        enter(&lab.client),
        enter(a),
        enter(b),
        enter(one),
        enter(two),
        config = sandbox::run_dir().join("lyre-node-a/lyre.toml").display(),
    ));
    loop {
        std::thread::park();
    }
}
