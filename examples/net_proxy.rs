//! The bare data path: requests of one receive buffer forwarded to one upstream connection per client, no HTTP. It
//! shows what the driver costs before anything is built on it.
//!
//! `net_proxy proxy ring|epoll LISTEN UPSTREAM CPU` and `net_proxy origin ring|epoll LISTEN BODY_BYTES CPU`

use glommio::{LocalExecutorBuilder, Placement, spawn_local};
use lyre::net::driver::{Driver, Kind, Socket};
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [role, kind, listen, argument, cpu] = &words[..] else { return Err("five arguments".into()) };
    let kind = if kind == "ring" { Kind::Ring } else { Kind::Epoll };
    let listener = TcpListener::bind(listen.parse::<SocketAddr>()?)?;
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu.parse()?))
        .ring_depth(256)
        .io_memory(64 << 10)
        .preempt_timer(Duration::from_millis(10))
        .make()?;
    let upstream = if role == "proxy" { Some(argument.parse::<SocketAddr>()?) } else { None };
    let response: Rc<[u8]> = match role.as_str() {
        "origin" => {
            let length: usize = argument.parse()?;
            let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
            bytes.resize(bytes.len() + length, b'x');
            bytes.into()
        }
        _ => Rc::new([]),
    };
    executor.run(async move {
        let driver = Driver::start(kind)?;
        let listener = driver.listen(listener.into())?;
        while let Some((client, _)) = listener.accept().await? {
            let (driver, response) = (driver.clone(), response.clone());
            spawn_local(async move {
                match upstream {
                    Some(upstream) => forward(&driver, client, upstream).await,
                    None => answer(client, &response).await,
                }
            })
            .detach();
        }
        Ok(())
    })
}

async fn forward(driver: &Driver, client: Socket, upstream: SocketAddr) -> Option<()> {
    let server = driver.connect(upstream, None, Duration::from_secs(5)).await.ok()?;
    loop {
        let request = client.recv().await.ok()?;
        if request.is_empty() {
            return None;
        }
        server.send_chunk(request).await.ok()?;
        let response = server.recv().await.ok()?;
        client.send_chunk(response).await.ok()?;
    }
}

async fn answer(client: Socket, response: &[u8]) -> Option<()> {
    let mut bytes = response.to_vec();
    loop {
        if client.recv().await.ok()?.is_empty() {
            return None;
        }
        let (result, back) = client.send(bytes).await;
        result.ok()?;
        bytes = back;
    }
}
