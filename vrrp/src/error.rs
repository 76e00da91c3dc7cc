//! Errors by who meets them: bytes ([`DecodeError`]) and the operating system ([`LinkError`]).
