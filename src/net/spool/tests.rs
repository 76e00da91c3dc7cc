use super::*;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

/// Runs a future on this thread; the spool's threads wake it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

fn directory() -> PathBuf {
    let path = std::env::temp_dir().join(format!("lyre-spool-{}-{:016x}", std::process::id(), fastrand::u64(..)));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn what_was_written_is_read_back_and_no_name_is_ever_there() {
    let directory = directory();
    let spool = Spool::start(directory.clone()).unwrap();
    let piece = |number: u8| vec![number; 50_000];
    block_on(async {
        let mut draft = spool.draft(1 << 30).await.unwrap();
        for number in 0..40 {
            draft.write(piece(number)).await.unwrap();
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        let spooled = draft.finish().await.unwrap();
        assert_eq!((spooled.bytes, spool.used()), (2_000_000, 2_000_000));
        let mut all = Vec::new();
        while (all.len() as u64) < spooled.bytes {
            all.extend(spooled.read(all.len() as u64, 65_536).await.unwrap());
        }
        let expected: Vec<u8> = (0..40).flat_map(piece).collect();
        assert!(all == expected);
        drop(spooled);
        assert_eq!(spool.used(), 0);
    });
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn all_files_together_have_one_limit_and_a_dropped_one_gives_back_its_share() {
    let directory = directory();
    let spool = Spool::start(directory.clone()).unwrap();
    block_on(async {
        let mut first = spool.draft(100).await.unwrap();
        first.write(vec![1; 60]).await.unwrap();
        let mut second = spool.draft(100).await.unwrap();
        assert!(matches!(second.write(vec![2; 60]).await, Err(SpoolError::Full)));
        drop(first.finish().await.unwrap());
        second.write(vec![2; 60]).await.unwrap();
        drop(second);
    });
    // A write that is under way holds its file until it is done.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while spool.used() != 0 {
        assert!(std::time::Instant::now() < deadline, "{} bytes are still held", spool.used());
        std::thread::yield_now();
    }
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_not_a_wait() {
    let spool = Spool::start(PathBuf::from("/nonexistent/lyre")).unwrap();
    assert!(matches!(block_on(spool.draft(1)), Err(SpoolError::Broken(_))));
}
