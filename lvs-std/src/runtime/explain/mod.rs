//! What a director would do with a packet, and why.
//!
//! The worker that owns the packet tries it on a copy of what it knows
//! ([`Forwarder::rehearse`](lvs_forward::Forwarder::rehearse)), by the code that packets go through: so what is told is
//! what would be done. Here is only what people want to know besides, in words.
//!
//! | file | what |
//! |---|---|
//! | `arrival` | the frame in question: as it was given, or made from a flow |
//! | `facts` | what the worker finds out, between two batches |
//! | `tell` | the facts in words |
//! | `kernel` | what the machine's kernel would do beside it |

mod arrival;
mod facts;
mod kernel;
mod tell;
#[cfg(test)]
mod tests;

use lvs_forward::PortId;

use self::arrival::{Arrival, Shape};
use self::facts::Facts;
use super::{ExplainError, RuntimeGroup, SharedController};
use crate::control::api::{Explanation, Question};
use crate::filter::{FlowText, bytes_of_hex};
use crate::worker::WorkerGone;

/// The answer; nothing changes by it.
pub(super) fn explain(
    question: &Question,
    (controller, group): (&SharedController, &RuntimeGroup),
    interfaces: &[String],
    configured: &[crate::config::Interface],
) -> Result<Explanation, ExplainError> {
    let port = |name: &Option<String>| match name {
        None => Ok(None),
        Some(name) => match interfaces.iter().position(|of| of == name) {
            Some(at) => Ok(Some(PortId(at as u8))),
            None => Err(ExplainError::Interface(name.clone())),
        },
    };
    let (worker, facts) = match question {
        Question::Packet { protocol, client, destination, mark } => {
            let mut asked: FlowText = format!("{protocol} {client} > {destination}").parse()?;
            asked.mark = *mark;
            of_flow(group, asked, None)?
        }
        Question::Flow { flow, mark, interface } => {
            let mut asked: FlowText = flow.parse()?;
            asked.mark = if *mark != 0 { *mark } else { asked.mark };
            of_flow(group, asked, port(interface)?)?
        }
        Question::Frame { frame, ip, mark, interface } => {
            let shape = Shape::Frame { bytes: bytes_of_hex(frame)?, ip: *ip, port: port(interface)? };
            ask(group, Arrival { shape, mark: *mark })?
        }
    };
    // What the workers found out is put into words while nobody else changes what was declared.
    let controller = controller.lock();
    let desired = controller.desired();
    let kernel = kernel::beside(&facts, configured, desired);
    let told = tell::Told { facts: &facts, desired, interfaces };
    Ok(told.explanation(worker, group.handles().len() > 1, kernel))
}

/// A packet of a flow: one of the connection if there is one, else the first of a new one.
fn of_flow(
    group: &RuntimeGroup,
    asked: FlowText,
    port: Option<PortId>,
) -> Result<(usize, Facts), ExplainError> {
    let FlowText { flow, mark } = asked;
    let later = ask(group, Arrival { shape: Shape::Flow { flow, first: false, port }, mark })?;
    if later.1.belongs_to_connection() {
        return Ok(later);
    }
    ask(group, Arrival { shape: Shape::Flow { flow, first: true, port }, mark })
}

/// Asks the first worker, and when it is another one's packet, that one.
fn ask(group: &RuntimeGroup, arrival: Arrival) -> Result<(usize, Facts), ExplainError> {
    let gone = |WorkerGone| ExplainError::Ending;
    let first = arrival.clone();
    let facts =
        group.with_first(move |director, forwarder, now| Facts::find(director, forwarder, now, &first));
    let facts = facts.map_err(gone)??;
    let owner = facts.packet.map_or(0, |packet| group.steer().owner(&packet.flow, facts.is_request()));
    match group.handles().get(owner).filter(|_| owner > 0) {
        None => Ok((0, facts)),
        Some(handle) => {
            let facts =
                handle.with(move |director, forwarder, now| Facts::find(director, forwarder, now, &arrival));
            Ok((owner, facts.map_err(gone)??))
        }
    }
}
