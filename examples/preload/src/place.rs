//! Where the director listens.

/// The path of a socket, with the NUL at its end; as long as `sockaddr_un` has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl Place {
    /// Room in `sockaddr_un`.
    pub(crate) const LONGEST: usize = 108;

    /// What the value of `LVS_DIRECTOR` means: a name, or a path if there is a slash in it; nothing is the name
    /// `default`. `None` if that is too long for a socket.
    pub(crate) fn of(director: Option<&[u8]>) -> Option<Self> {
        let director = director.filter(|name| !name.is_empty()).unwrap_or(b"default");
        let (folder, suffix): (&[u8], &[u8]) =
            if director.contains(&b'/') { (b"", b"") } else { (b"/run/director/", b".sock") };
        let length = folder.len() + director.len() + suffix.len();
        if length >= Self::LONGEST {
            return None;
        }
        let mut bytes = [0; Self::LONGEST];
        let parts = folder.iter().chain(director).chain(suffix);
        for (byte, &part) in bytes.iter_mut().zip(parts) {
            *byte = part;
        }
        Some(Self { bytes, length })
    }

    /// The path without a NUL.
    pub(crate) fn path(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(director: &str) -> Option<String> {
        Place::of(Some(director.as_bytes())).map(|place| String::from_utf8(place.path().to_vec()).unwrap())
    }

    #[test]
    fn a_name_is_a_socket_below_run() {
        assert_eq!(path("web").as_deref(), Some("/run/director/web.sock"));
        assert_eq!(path("").as_deref(), Some("/run/director/default.sock"));
        assert_eq!(Place::of(None), Place::of(Some(b"default")));
    }

    #[test]
    fn what_has_a_slash_is_a_path() {
        assert_eq!(path("/tmp/x.sock").as_deref(), Some("/tmp/x.sock"));
        assert_eq!(path("./x").as_deref(), Some("./x"));
    }

    #[test]
    fn a_path_must_fit_with_its_nul() {
        assert!(path(&format!("/{}", "x".repeat(106))).is_some());
        assert!(path(&format!("/{}", "x".repeat(107))).is_none());
        assert!(path(&"x".repeat(89)).is_none());
    }
}
