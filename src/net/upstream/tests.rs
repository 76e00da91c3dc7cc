use super::*;
use crate::config::settings::Place;
use crate::net::testing::*;
use std::net::TcpListener;

/// A name that leads to these, which have one port.
fn named(list: &[SocketAddr]) -> Target {
    let target = Target::new(&Place::Name { host: "web".to_owned(), port: 80 });
    target.name().unwrap().publish(list.to_vec());
    target
}

/// An address where nobody listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn of_a_names_addresses_the_next_one_is_tried() {
    on_each_driver(|driver| async move {
        let (fd, open) = listening();
        let listener = driver.listen(fd).unwrap();
        let target = named(&[closed(), open]);
        for order in [Order::Proven, Order::Plain, Order::Proven, Order::Plain] {
            let stream = connect(&driver, &target, None, SOON, order).await.unwrap();
            assert_eq!(stream.socket().unwrap().peer_addr().unwrap(), open);
            listener.accept().await.unwrap().unwrap();
        }
        // The one that refused is the last one in every turn.
        for _ in 0..4 {
            assert_eq!(target.name().unwrap().candidates(Order::Proven).1, [1, 0]);
        }
    });
}

#[test]
fn when_all_addresses_refuse_or_there_is_none_the_connect_fails() {
    on_each_driver(|driver| async move {
        let refused = connect(&driver, &named(&[closed(), closed()]), None, SOON, Order::Proven).await;
        assert_eq!(refused.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        let target = Target::new(&Place::Name { host: "web".to_owned(), port: 80 });
        let unresolved = connect(&driver, &target, None, SOON, Order::Proven).await.err().unwrap();
        assert_eq!(unresolved.to_string(), "not resolved yet");
    });
}

#[test]
fn idle_connections_to_addresses_that_are_gone_are_closed_and_none_is_kept() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        let listener = driver.listen(fd).unwrap();
        let target = named(&[address]);
        let idle = Idle::new(target.clone());
        let counters = CoreCounters::default();
        let mut far = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(idle.connect(&driver, None, SOON).await.unwrap());
            far.push(listener.accept().await.unwrap().unwrap());
        }
        let in_use = streams.pop().unwrap();
        streams.into_iter().for_each(|stream| idle.put(stream, None, 8, &counters));
        assert_eq!(idle.len(), 2);
        // Another one beside it moves nothing.
        assert!(target.name().unwrap().publish(vec![address, closed()]));
        idle.tend(SOON, &counters);
        assert_eq!(idle.len(), 2);

        assert!(target.name().unwrap().publish(vec![closed()]));
        assert!(idle.take(None, SOON, &counters).is_none());
        assert_eq!((idle.len(), counters.upstream_evicted.read()), (0, 2));
        idle.put(in_use, None, 8, &counters);
        assert_eq!((idle.len(), counters.upstream_evicted.read()), (0, 3));
    });
}
