//! What a speaker needs from the operating system, for one interface and address family.
