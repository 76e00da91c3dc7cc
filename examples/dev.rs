use lyre::config::{self, bundle::Bundle};
use lyre::control::listeners::Listeners;
use lyre::serve::page::SharedPage;
use lyre::serve::worker::Worker;
use std::sync::Arc;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let path = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let (settings, _bundle): (_, Bundle) = match config::load(&path, None) {
        Ok(x) => x,
        Err(e) => {
            eprintln!("{e}");
            return;
        }
    };
    lyre::telemetry::init_tracing(settings.log.format, settings.log.level);
    let (page, _fd) = SharedPage::create(c"page").unwrap();
    let l = Listeners::default().bind_missing(&settings, settings.worker.cores).unwrap_or_else(|e| {
        for e in e {
            eprintln!("{e}");
        }
        panic!()
    });
    let (names, fds) = l.handout();
    let sockets = names.into_iter().zip(fds.into_iter().map(|f| f.try_clone_to_owned().unwrap())).collect();
    let worker = Worker::start(settings, Arc::new(page), sockets).unwrap();
    eprintln!("ready {:?}", l.bound());
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {
        match line.trim() {
            "m" => println!("{}", lyre::serve::report::metrics(&worker.shared)),
            "s" => println!("{:#}", lyre::serve::report::status(&worker.shared)),
            _ => {}
        }
        line.clear();
    }
    std::thread::park();
}
