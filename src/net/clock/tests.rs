use super::*;
use glommio::LocalExecutor;
use std::future::pending;
use std::rc::Rc;

#[test]
fn bound_returns_the_output_or_the_timeout() {
    LocalExecutor::default().run(async {
        let timer = Timer::new();
        assert_eq!(timer.bound(async { 7 }).await, Ok(7));
        timer.arm(Duration::from_millis(100));
        let start = now();
        assert_eq!(timer.bound(pending::<()>()).await, Err(Elapsed));
        let waited = now().since(start);
        assert!(waited >= Duration::from_millis(100), "{waited:?}");
    });
}

#[test]
fn an_earlier_deadline_wakes_a_sleeping_wheel_in_time() {
    LocalExecutor::default().run(async {
        let late = Timer::new();
        late.arm(Duration::from_secs(3600));
        glommio::timer::sleep(Duration::from_millis(5)).await;
        let early = Timer::new();
        early.arm(Duration::from_millis(70));
        let start = now();
        assert_eq!(early.bound(pending::<()>()).await, Err(Elapsed));
        assert!(now().since(start) < Duration::from_secs(600));
    });
}

#[test]
fn a_second_executor_on_the_thread_gets_its_own_ticker() {
    for _ in 0..2 {
        LocalExecutor::default().run(async {
            let timer = Timer::new();
            timer.arm(Duration::from_secs(600));
            let short = Timer::new();
            short.arm(Duration::from_millis(1));
            assert_eq!(short.bound(pending::<()>()).await, Err(Elapsed));
        });
    }
}

#[test]
fn forty_thousand_armed_timers_do_not_exhaust_a_task_reference_count() {
    LocalExecutor::default().run(async {
        let done = Rc::new(Cell::new(0));
        let timers: Vec<_> = (0..40_000)
            .map(|_| {
                let done = done.clone();
                glommio::spawn_local(async move {
                    let timer = Timer::new();
                    timer.arm(Duration::from_millis(100));
                    assert_eq!(timer.bound(pending::<()>()).await, Err(Elapsed));
                    done.set(done.get() + 1);
                })
            })
            .collect();
        for timer in timers {
            timer.await;
        }
        assert_eq!(done.get(), 40_000);
    });
}

#[test]
fn while_the_loop_sleeps_the_clock_is_read_afresh() {
    refresh();
    let turn = now();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(now(), turn);
    release();
    assert!(now() > turn);
}

/// Here glommio's preempt timer fires before the first task again and again, as on a machine under load now and then:
/// without the backstops the shorter ones stand still.
#[test]
fn a_core_that_is_preempted_before_its_first_task_ticks_on() {
    let cores: Vec<_> = [24, 32, 48, 64]
        .into_iter()
        .map(|preempt_us| {
            let (done, ticked) = std::sync::mpsc::channel();
            let run = move || async move {
                for _ in 0..400 {
                    tick(Duration::from_millis(1)).await;
                }
                let _ = done.send(());
            };
            let builder = glommio::LocalExecutorBuilder::default();
            let _detached = builder.preempt_timer(Duration::from_micros(preempt_us)).spawn(run).unwrap();
            (preempt_us, ticked)
        })
        .collect();
    for (preempt_us, ticked) in cores {
        let is_done = ticked.recv_timeout(Duration::from_secs(60)).is_ok();
        assert!(is_done, "stands still with a preempt timer of {preempt_us} us");
    }
}
