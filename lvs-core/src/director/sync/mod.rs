//! Synchronisation with other directors: what a master reports, and what a backup takes over.

mod backup;
mod master;
