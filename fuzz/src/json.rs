//! Any question at the JSON socket.

use core::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use lvs_std::control::Cursor;
use lvs_std::control::api::{
    ApiEvent, ApiHandler, ConnectionPage, ConnectionRow, Request, Response, Wake, converse,
};

/// The first byte says how many connections there are, the second how many a page has, the third where the question is
/// cut into pieces; the rest is the question. It must be answered by nothing, or by one line of JSON that is a
/// [`Response`]. A listing has as many rows as there are, or as its limit says, and then says where the rest begins.
pub fn json(input: &[u8]) {
    let Some(([connections, page, cut], question)) = input.split_first_chunk() else { return };
    let table = Table { connections: (*connections).into(), page: usize::from(*page).max(1) };
    let handler: Arc<dyn ApiHandler> = Arc::new(table);
    let answer = converse(&handler, question.chunks(usize::from(*cut).max(1)));
    let line = question.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() == question.len() {
        assert!(answer.is_empty(), "half a question was answered");
        return;
    }
    let (end, text) = answer.split_last().unwrap_or_else(|| panic!("no answer"));
    assert!(*end == b'\n' && !text.contains(&b'\n'), "one line");
    let response: Response = serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}"));
    let asked = serde_json::from_slice::<Request>(line);
    if let Ok(asked) = &asked {
        // What was understood can be said again, and is understood the same.
        let said = serde_json::to_string(asked).unwrap_or_default();
        let again = serde_json::from_str::<Request>(&said).map(|again| format!("{again:?}"));
        assert_eq!(again.ok(), Some(format!("{asked:?}")), "{said}");
    }
    if let Ok(Request::Connections { server: None, limit, after: None }) = asked {
        let rows = response.result.as_array().map(Vec::len);
        let most = limit.unwrap_or(usize::MAX);
        assert_eq!(rows, Some(most.min((*connections).into())));
        assert_eq!(response.next.is_some(), most < usize::from(*connections));
    }
}

struct Table {
    connections: usize,
    page: usize,
}

impl ApiHandler for Table {
    fn answer(&self, request: Request) -> Response {
        Response::of(&format!("{request:?}"))
    }

    fn connections(
        &self,
        server: Option<SocketAddr>,
        most: usize,
        at: Option<Cursor>,
    ) -> Result<ConnectionPage, String> {
        let place = at.map(|at| at.to_string());
        let first = place.as_deref().and_then(|place| place.rsplit('-').next());
        let first = first.and_then(|first| usize::from_str_radix(first, 16).ok()).unwrap_or_default();
        let first = first.min(self.connections);
        let end = (first + self.page.min(most)).min(self.connections);
        let address = server.unwrap_or_else(|| ([192, 0, 2, 1], 1).into());
        let row = |number: usize| ConnectionRow {
            protocol: "TCP".to_owned(),
            client: address,
            virtual_address: address,
            server: address,
            method: "nat".to_owned(),
            state: "ESTABLISHED".to_owned(),
            expires: 1.0,
            packets: number as u64,
        };
        let next = (end < self.connections).then(|| format!("1-0-{end:x}").parse().ok()).flatten();
        Ok(ConnectionPage { rows: (first..end).map(row).collect(), next })
    }

    fn events(&self, _: Wake) -> Receiver<ApiEvent> {
        channel().1
    }
}
