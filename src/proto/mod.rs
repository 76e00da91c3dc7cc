//! Pure protocols: bytes in, values out. No glommio, clock, socket or log.

pub mod dns;
pub mod frp;
pub mod http1;
pub mod http2;
pub mod mysql;
pub mod proxy_header;
