use super::*;
use crate::net::testing::*;
use std::io::{Read, Write};
use std::net::TcpListener;

fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn what_is_no_answer_is_waited_through_and_strangers_are_not_heard() {
    on_each_driver(|_driver| async move {
        let (server, address) = udp();
        let other = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let (count, asker) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"question");
            // From another port: the kernel drops it.
            udp().0.send_to(b"forged answer", asker).unwrap();
            server.send_to(b"late", asker).unwrap();
            server.send_to(b"answer", asker).unwrap();
        });
        let mut heard = Vec::new();
        let result = ask(address, b"question", 64, SOON, |bytes| {
            heard.push(bytes.to_vec());
            bytes == b"answer"
        });
        result.await.unwrap();
        assert_eq!(heard, [b"late".to_vec(), b"answer".to_vec()]);
        other.join().unwrap();
    });
}

#[test]
fn a_flood_of_wrong_answers_ends_the_question() {
    on_each_driver(|_driver| async move {
        let (server, address) = udp();
        let flood = std::thread::spawn(move || {
            let (_, asker) = server.recv_from(&mut [0; 64]).unwrap();
            // The first refusal says that the socket is gone.
            (0..10_000).take_while(|_| server.send_to(b"guess", asker).is_ok()).count();
        });
        let result = ask(address, b"question", 64, SOON, |_| false).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
        flood.join().unwrap();
    });
}

#[test]
fn silence_times_out_and_a_closed_port_is_known_at_once() {
    on_each_driver(|_driver| async move {
        let (server, address) = udp();
        let result = ask(address, b"question", 64, Duration::from_millis(20), |_| true).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(server);
        let result = ask(address, b"question", 64, SOON, |_| true).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn every_question_comes_from_a_port_of_its_own() {
    on_each_driver(|_driver| async move {
        let (server, address) = udp();
        let mut ports = std::collections::BTreeSet::new();
        for _ in 0..16 {
            let _ = ask(address, b"question", 64, Duration::ZERO, |_| true).await;
            ports.insert(server.recv_from(&mut [0; 64]).unwrap().1.port());
        }
        // The kernel may come back to one, but hardly ever does.
        assert!(ports.len() > 8, "{ports:?}");
    });
}

#[test]
fn an_answer_over_tcp_arrives_whole_in_whatever_pieces() {
    on_each_driver(|driver| async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 10];
            stream.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"\0\x08question");
            let answer = [&30_000u16.to_be_bytes()[..], &pattern(7, 0, 30_000)].concat();
            for piece in answer.chunks(1_499) {
                stream.write_all(piece).unwrap();
            }
            // Cut in the middle.
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"\0\x08answ").unwrap();
        });
        assert_eq!(ask_tcp(&driver, address, b"question", SOON).await.unwrap(), pattern(7, 0, 30_000));
        let cut = ask_tcp(&driver, address, b"question", SOON).await;
        assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        server.join().unwrap();
    });
}
