//! The FIFOs of all hooks, each with its reader if it is ours to run.

use super::fifo::Fifo;
use super::reader::{Reader, Task};
use super::runner::Runner;
use crate::config::settings::track::Hook;
use crate::control::script;

/// In the order of the hooks.
#[derive(Default)]
pub struct Outlets {
    all: Vec<Option<Outlet>>,
    /// Readers of FIFOs that a reload closed, and who may still be at their last lines.
    leaving: Vec<Reader>,
    /// By FIFOs that are closed.
    lost_before: u64,
}

/// Fields in this order: a reader ends when its FIFO is closed.
pub struct Outlet {
    fifo: Fifo,
    reader: Option<Reader>,
}

impl Outlets {
    /// A reader whose FIFO, command and account stay goes on, and so does its FIFO.
    pub fn reload(&mut self, hooks: &[Hook], runner: &Runner) {
        let mut before: Vec<Outlet> = self.all.drain(..).flatten().collect();
        let mut keep = |hook: &Hook| {
            let task = task(hook)?;
            let is_it = |outlet: &Outlet| outlet.reader.as_ref().is_some_and(|reader| *reader.task() == task);
            before.iter().position(is_it).map(|at| before.swap_remove(at))
        };
        let kept: Vec<Option<Outlet>> = hooks.iter().map(&mut keep).collect();
        // First of all, so that a FIFO whose reader is replaced is not read by both for longer than the old one needs.
        before.into_iter().for_each(|outlet| self.retire(outlet));
        self.leaving.retain(|reader| !reader.has_ended());
        let open = |(hook, kept): (&Hook, Option<Outlet>)| kept.or_else(|| Outlet::open(hook, task(hook), runner));
        self.all = hooks.iter().zip(kept).map(open).collect();
    }

    /// Nobody is told anything any more. Readers have some time from now on; whoever drops this waits for them.
    pub fn close(&mut self) {
        let all: Vec<Outlet> = self.all.drain(..).flatten().collect();
        all.into_iter().for_each(|outlet| self.retire(outlet));
    }

    pub fn lost_lines(&self) -> u64 {
        self.lost_before + self.all.iter().flatten().map(|outlet| outlet.fifo.lost()).sum::<u64>()
    }

    /// Every hook that has one.
    pub fn of<'a>(&'a mut self, hooks: &'a [Hook]) -> impl Iterator<Item = (&'a Hook, &'a mut Outlet)> {
        hooks.iter().zip(&mut self.all).filter_map(|(hook, outlet)| Some((hook, outlet.as_mut()?)))
    }

    fn retire(&mut self, Outlet { fifo, reader }: Outlet) {
        self.lost_before += fifo.lost();
        // First released: a reader that ends with its FIFO, as it should, has not failed.
        if let Some(reader) = &reader {
            reader.release();
        }
        drop(fifo);
        self.leaving.extend(reader);
    }
}

impl Outlet {
    fn open(hook: &Hook, task: Option<Task>, runner: &Runner) -> Option<Outlet> {
        let path = hook.fifo.as_deref()?;
        let Some(task) = task else { return Some(Outlet { fifo: Fifo::open(path), reader: None }) };
        let fifo = Fifo::held(path, script::identity(hook.user.as_deref()));
        let reader = match Reader::start(task, runner.counters()) {
            Ok(reader) => Some(reader),
            Err(error) => {
                tracing::error!(target: "lyre::hooks", fifo = %path.display(), %error, "cannot watch over a FIFO's reader");
                None
            }
        };
        Some(Outlet { fifo, reader })
    }

    /// One line in keepalived's form.
    pub fn write(&mut self, [kind, name, word, priority]: &[String; 4]) {
        self.fifo.write(&format!("{kind} \"{name}\" {word} {priority}\n"));
    }
}

fn task(hook: &Hook) -> Option<Task> {
    let (fifo, command) = hook.fifo.clone().zip(hook.fifo_script.clone())?;
    Some(Task { command, fifo, user: hook.user.clone() })
}
