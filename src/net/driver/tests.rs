//! One body per behaviour, run against every driver the kernel allows: they must not differ.

use super::*;
use glommio::{LocalExecutor, spawn_local};
use std::net::Ipv4Addr;

/// Runs `body` once per driver, each on an executor of its own thread.
fn on_each_driver<F: Future<Output = ()> + 'static>(body: fn(Driver) -> F) {
    for kind in [Kind::Epoll] {
        std::thread::spawn(move || {
            LocalExecutor::default().run(async move {
                let driver = Driver::start(kind).unwrap();
                assert_eq!(driver.kind(), kind);
                body(driver).await;
            });
        })
        .join()
        .unwrap_or_else(|_| panic!("failed on {kind:?}"));
    }
}

fn listening() -> (OwnedFd, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

const SOON: Duration = Duration::from_secs(10);

/// Two ends of one TCP connection, both on `driver`.
async fn pair(driver: &Driver) -> (Socket, Socket) {
    let (fd, address) = listening();
    let listener = driver.listen(fd).unwrap();
    let near = driver.connect(address, None, SOON).await.unwrap();
    let (far, peer) = listener.accept().await.unwrap().unwrap();
    assert_eq!(peer, near.local_addr().unwrap());
    (near, far)
}

#[test]
fn echoes_and_ends_cleanly() {
    on_each_driver(|driver| async move {
        let (near, far) = pair(&driver).await;
        let echo = spawn_local(async move {
            loop {
                let chunk = far.recv().await.unwrap();
                if chunk.is_empty() {
                    far.shutdown_write();
                    return;
                }
                far.send_chunk(chunk).await.unwrap();
            }
        });
        for length in [1, 2, 100, 1000, 16 * 1024] {
            let message: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let (result, message) = near.send(message).await;
            result.unwrap();
            let mut got = Vec::new();
            while got.len() < message.len() {
                got.extend_from_slice(&near.recv().await.unwrap());
            }
            assert_eq!(got, message);
        }
        near.shutdown_write();
        assert!(near.recv().await.unwrap().is_empty());
        assert!(near.recv().await.unwrap().is_empty(), "end of stream is lasting");
        echo.await;
    });
}

#[test]
fn connect_to_a_closed_port_is_refused() {
    on_each_driver(|driver| async move {
        let (fd, address) = listening();
        drop(fd);
        let error = driver.connect(address, None, SOON).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}
