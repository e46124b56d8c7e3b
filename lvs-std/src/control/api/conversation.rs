//! A client's conversation: a line with a question, then the answer, piece by piece if it is long.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use super::questions::Questions;
use super::{ApiEvent, ApiHandler, ConnectionPage, Request, Response};
use crate::control::Cursor;
use crate::control::front::{Peer, Said, Talk, Then};

/// A conversation with a client.
pub(super) struct Conversation {
    questions: Questions,
    privileged: bool,
    state: State,
}

enum State {
    /// The question, as far as it was heard.
    Hears(Vec<u8>),
    /// The answer is being worked out.
    Asked(Receiver<Response>),
    /// A page of a listing is being worked out.
    Lists(Listing, Receiver<Result<ConnectionPage, String>>),
    /// A page was sent, and the next one begins here.
    Between(Listing, Cursor),
    /// The client hears what happens.
    Told {
        events: Receiver<ApiEvent>,
        last: Instant,
        /// Whoever tells of events knows by it that the client is still there.
        token: Arc<()>,
    },
    Over,
}

/// A listing of connections that is being sent.
struct Listing {
    server: Option<SocketAddr>,
    /// How many more there may be.
    left: usize,
    /// Whether anything of it was sent.
    begun: bool,
}

impl Conversation {
    pub(super) const fn new(peer: Peer, questions: Questions) -> Self {
        Self { questions, privileged: peer.privileged, state: State::Hears(Vec::new()) }
    }

    /// Says a line, and then nothing.
    fn end(&mut self, response: &Response) -> Said {
        self.state = State::Over;
        // A response of ours has nothing that JSON cannot say. If it had, the client must not wait in vain.
        let text = serde_json::to_vec(response).unwrap_or_else(|_| br#"{"error":"no answer"}"#.to_vec());
        Said { pieces: vec![line(text)], then: Then::End }
    }

    /// The question is whole.
    fn asked(&mut self, question: &[u8]) -> Said {
        // Asked of the kernel, so that the mode of the socket's file is not all that keeps a stranger out.
        if !self.privileged {
            return self.end(&Response::failed("this user may not command the director"));
        }
        match serde_json::from_slice(question) {
            Ok(Request::Events) => {
                let token = Arc::new(());
                let events = self.questions.events(&token);
                self.state = State::Told { events, last: Instant::now(), token };
                // So that whoever waits for this line knows that nothing is missed from now on.
                Said { pieces: vec![b"{}\n".to_vec()], then: Then::Told }
            }
            Ok(Request::Connections { server, limit, after }) => {
                let at = match after.as_deref().map(str::parse).transpose() {
                    Ok(at) => at,
                    Err(error) => return self.end(&Response::failed(format!("after: {error}"))),
                };
                self.page(Listing { server, left: limit.unwrap_or(usize::MAX), begun: false }, at)
            }
            Ok(request) => {
                let Some(answer) = self.questions.work_out(move |handler| handler.answer(request)) else {
                    return self.end(&Response::failed(BUSY));
                };
                self.state = State::Asked(answer);
                Said { pieces: Vec::new(), then: Then::Wait }
            }
            Err(error) => {
                self.end(&Response::failed(format!("no question that this director knows: {error}")))
            }
        }
    }

    /// Has the next page of a listing worked out.
    fn page(&mut self, listing: Listing, at: Option<Cursor>) -> Said {
        let (server, most) = (listing.server, listing.left);
        let page = self.questions.work_out(move |handler| handler.connections(server, most, at));
        let Some(page) = page else { return self.listed(listing, Err(BUSY.to_owned())) };
        self.state = State::Lists(listing, page);
        Said { pieces: Vec::new(), then: Then::Wait }
    }

    /// Says a page of a listing.
    fn listed(&mut self, mut listing: Listing, page: Result<ConnectionPage, String>) -> Said {
        let page = match page {
            Ok(page) => page,
            Err(why) if !listing.begun => return self.end(&Response::failed(why)),
            // In the middle of an answer nothing can be said any more: it ends without its end, and so is none.
            Err(_) => return self.break_off(),
        };
        let ConnectionPage { rows, next } = page;
        let goes_on = next.filter(|_| rows.len() < listing.left);
        if rows.is_empty()
            && let Some(at) = goes_on
        {
            return self.page(listing, Some(at));
        }
        // Written at once to where it waits for the client: with many listings at a time, each further copy of a page
        // would count.
        let mut text = Vec::with_capacity(rows.len() * ROW);
        if !listing.begun {
            text.extend_from_slice(b"{\"result\":[");
        }
        for (row, number) in rows.iter().zip(0..) {
            if listing.begun || number > 0 {
                text.push(b',');
            }
            if serde_json::to_writer(&mut text, row).is_err() {
                return self.break_off();
            }
        }
        listing.begun = true;
        listing.left = listing.left.saturating_sub(rows.len());
        drop(rows);
        text.shrink_to_fit();
        if let Some(at) = goes_on {
            self.state = State::Between(listing, at);
            return Said { pieces: vec![text], then: Then::Talk };
        }
        text.push(b']');
        if let Some(next) = next {
            text.extend_from_slice(format!(",\"next\":\"{next}\"").as_bytes());
        }
        text.push(b'}');
        self.state = State::Over;
        Said { pieces: vec![line(text)], then: Then::End }
    }

    /// What has happened, as far as it is known, and now and then an empty line, which finds out who has left.
    fn told(&mut self, events: Receiver<ApiEvent>, mut last: Instant, token: Arc<()>) -> Said {
        let (mut pieces, mut then) = (Vec::new(), Then::Talk);
        while pieces.len() < AT_ONCE {
            match events.try_recv() {
                Ok(event) => pieces.extend(serde_json::to_vec(&event).map(line).ok()),
                Err(TryRecvError::Empty) => {
                    then = Then::Told;
                    break;
                }
                Err(TryRecvError::Disconnected) => {
                    self.state = State::Over;
                    return Said { pieces, then: Then::End };
                }
            }
        }
        if pieces.is_empty() && last.elapsed() > QUIET {
            pieces.push(b"\n".to_vec());
        }
        if !pieces.is_empty() {
            last = Instant::now();
        }
        self.state = State::Told { events, last, token };
        Said { pieces, then }
    }

    fn break_off(&mut self) -> Said {
        self.state = State::Over;
        Said { pieces: Vec::new(), then: Then::End }
    }
}

impl Talk for Conversation {
    fn hear(&mut self, bytes: &[u8]) {
        if let State::Hears(question) = &mut self.state {
            question.extend_from_slice(bytes);
        }
    }

    fn next(&mut self) -> Said {
        match core::mem::replace(&mut self.state, State::Over) {
            State::Hears(mut question) => match question.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    question.truncate(end);
                    self.asked(&question)
                }
                None if question.len() > LONGEST => self.end(&Response::failed("the question is too long")),
                None => {
                    self.state = State::Hears(question);
                    Said { pieces: Vec::new(), then: Then::Listen }
                }
            },
            State::Asked(answer) => match answer.try_recv() {
                Ok(response) => self.end(&response),
                Err(TryRecvError::Empty) => {
                    self.state = State::Asked(answer);
                    Said { pieces: Vec::new(), then: Then::Wait }
                }
                Err(TryRecvError::Disconnected) => self.end(&Response::failed(FAULT)),
            },
            State::Lists(listing, page) => match page.try_recv() {
                Ok(page) => self.listed(listing, page),
                Err(TryRecvError::Empty) => {
                    self.state = State::Lists(listing, page);
                    Said { pieces: Vec::new(), then: Then::Wait }
                }
                Err(TryRecvError::Disconnected) => self.listed(listing, Err(FAULT.to_owned())),
            },
            State::Between(listing, at) => self.page(listing, Some(at)),
            State::Told { events, last, token } => self.told(events, last, token),
            State::Over => self.break_off(),
        }
    }
}

/// Answers a question without a socket: the question comes in these pieces, and the whole answer is returned. Nothing
/// is returned while the question has no end. For a program that has a way of its own to its clients.
///
/// A listing of connections is as long here as the table is: ask for it with a limit. [`Request::Events`] is answered
/// by the line that says that it begins.
pub fn converse<'a>(handler: &Arc<dyn ApiHandler>, question: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let peer = Peer { user: 0, process: 0, privileged: true };
    let mut conversation = Conversation::new(peer, Questions::of(handler.clone()));
    let mut answer = Vec::new();
    for piece in question {
        conversation.hear(piece);
        loop {
            let Said { pieces, then } = conversation.next();
            answer.extend(pieces.into_iter().flatten());
            match then {
                Then::Listen => break,
                Then::Talk | Then::Wait => {}
                Then::Told | Then::End => return answer,
            }
        }
    }
    answer
}

fn line(mut text: Vec<u8>) -> Vec<u8> {
    text.push(b'\n');
    text
}

/// The longest question, in bytes: a configuration of some ten thousand services.
const LONGEST: usize = 4 << 20;
/// Bytes of a usual row of a listing.
const ROW: usize = 224;
/// Events that are told before others have their turn.
const AT_ONCE: usize = 64;
/// After how long without an event an empty line is sent.
const QUIET: Duration = Duration::from_secs(5);
/// What is said while more questions wait than there are clients.
const BUSY: &str = "too many questions wait for their answers: ask again";
/// What is said when the director has a fault.
const FAULT: &str = "the question could not be answered: the director has a fault, which its log names";
