//! Scratch.
use lyre::demo::contender::keepalived::{KeepalivedHaproxy, Settings};
use lyre::demo::identity::Identity;
use lyre::demo::lab::Lab;
use lyre::demo::rig::{Pace, Rig};
use lyre::demo::{DemoError, Fault, sandbox, within};
use std::sync::Arc;
use std::time::Duration;

fn main() -> std::process::ExitCode {
    match within(|_| go()) {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error}\n")));
            std::process::ExitCode::from(2)
        }
    }
}

fn go() -> Result<bool, DemoError> {
    let lab = Arc::new(Lab::build()?);
    let identity = Identity::make(&sandbox::run_dir())?;
    let advert_interval = Duration::from_millis(100);
    let pair = KeepalivedHaproxy::new(&lab, &identity, Settings { advert_interval, restarts_proxy: false })?;
    let mut rig =
        Rig::start(&lab, &identity, Box::new(pair), Pace { rate: 500, advert_interval, with_transfers: true })?;
    let mut view = lyre::demo::view::View::new(lyre::demo::view::Form::choose(false));
    let mut all = Vec::new();
    for fault in [Fault::Cable, Fault::Node, Fault::WorkerCrash, Fault::Planned, Fault::Web] {
        let holder = rig.converge()?;
        view.phase(fault.sentence());
        let o = rig.suffer(fault, holder)?;
        view.outcome(&o);
        all.push(o);
        rig.heal(fault, holder)?;
    }
    view.table(&all);
    rig.stop()?;
    Ok(true)
}
