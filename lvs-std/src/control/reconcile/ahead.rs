//! Changes that are planned one upon the other, before any of them is noted.

use core::net::SocketAddr;
use std::collections::BTreeSet;

use super::desired::{DesiredState, Edit, ServerStatus};
use crate::control::{Errno, ServiceName, TableCommand};

/// What a desired state will be after some changes: the services that they touch, and nothing of all others, so that a
/// few changes to a long table cost as much as to a short one.
///
/// The desired state stays as it is until this [takes place](Self::take_place). It must not change meanwhile.
#[derive(Debug)]
pub(crate) struct Ahead {
    touched: BTreeSet<ServiceName>,
    /// The services that were touched, without those that will be gone.
    there: DesiredState,
}

impl Ahead {
    /// Nothing has been planned.
    pub(crate) fn new(desired: &DesiredState) -> Self {
        Self { touched: BTreeSet::new(), there: desired.without_services() }
    }

    /// What a command changes, after what was planned before it; see [`DesiredState::plan`].
    ///
    /// # Errors
    /// As for [`DesiredState::plan`]; nothing is planned then.
    pub(crate) fn plan(
        &mut self,
        desired: &DesiredState,
        command: &TableCommand,
        syncing: bool,
    ) -> Result<Edit, Errno> {
        match command.service() {
            Some(name) => self.touch(desired, name),
            None => desired.names().for_each(|name| self.touch(desired, name)),
        }
        self.there.plan(command, syncing)
    }

    /// Another status for a server, after what was planned before; see [`DesiredState::set_server_status`].
    ///
    /// # Errors
    /// As for [`DesiredState::set_server_status`]; nothing is planned then.
    pub(crate) fn set_server_status(
        &mut self,
        desired: &DesiredState,
        (name, address, status): (ServiceName, SocketAddr, ServerStatus),
    ) -> Result<Edit, Errno> {
        self.touch(desired, name);
        self.there.set_server_status(name, address, status)
    }

    /// Takes note of a change that was planned.
    pub(crate) fn note(&mut self, edit: Edit) {
        self.there.note(edit);
    }

    /// What was planned, as far as it was noted: the services that were touched, without those that will be gone.
    pub(crate) const fn there(&self) -> &DesiredState {
        &self.there
    }

    /// Makes the desired state what was planned.
    pub(crate) fn take_place(self, desired: &mut DesiredState) {
        desired.replace(self.touched, self.there);
    }

    fn touch(&mut self, desired: &DesiredState, name: ServiceName) {
        if self.touched.insert(name) {
            self.there.share(desired, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use lvs_core::Family;

    use super::*;
    use crate::control::{ServerSpec, ServiceSpec, method};

    fn name(number: u8) -> ServiceName {
        ServiceName::tcp(([10, 99, 0, number], 80).into())
    }

    fn server(number: u8) -> SocketAddr {
        ([10, 0, 1, number], 80).into()
    }

    /// Some commands, of which some are refused for what those before them lead to.
    fn commands() -> Vec<TableCommand> {
        let new = |number| TableCommand::NewService(name(number), ServiceSpec::new(Family::V4, "rr"));
        let add = |number, of| {
            TableCommand::NewServer(name(number), server(of), ServerSpec::new(method::DIRECT, 1))
        };
        vec![
            new(1),
            add(1, 1),
            add(1, 1),
            new(2),
            add(2, 3),
            TableCommand::DelService(name(1)),
            add(1, 2),
            new(1),
            add(1, 4),
            TableCommand::SetServer(name(1), server(4), ServerSpec::new(method::DIRECT, 7)),
            TableCommand::DelServer(name(2), server(3)),
            TableCommand::DelServer(name(2), server(3)),
            TableCommand::Flush,
            add(2, 1),
            new(3),
            new(2),
        ]
    }

    fn listed(desired: &DesiredState) -> Vec<String> {
        desired.services().map(|(name, declared)| format!("{name} {declared:?}")).collect()
    }

    #[test]
    fn changes_planned_ahead_lead_to_the_same_as_one_noted_after_the_other() {
        let all = commands();
        for cut in 0..=all.len() {
            let (before, together) = all.split_at(cut);
            let (mut one, mut other) = (DesiredState::new(), DesiredState::new());
            for command in before {
                for desired in [&mut one, &mut other] {
                    if let Ok(edit) = desired.plan(command, false) {
                        desired.note(edit);
                    }
                }
            }
            let mut ahead = Ahead::new(&other);
            for command in together {
                let by_one = one.plan(command, false);
                let planned = ahead.plan(&other, command, false);
                assert_eq!(by_one.as_ref().err(), planned.as_ref().err(), "{command:?} after {cut}");
                let (Ok(by_one), Ok(planned)) = (by_one, planned) else { continue };
                assert_eq!(format!("{:?}", by_one.changes), format!("{:?}", planned.changes));
                one.note(by_one);
                ahead.note(planned);
            }
            let untouched = listed(&other);
            assert_eq!(other.revision(), cut_revision(before), "planning changes nothing");
            ahead.take_place(&mut other);
            assert_eq!(listed(&one), listed(&other), "from {cut}, where there was {untouched:?}");
            assert_eq!(one.revision(), other.revision());
        }
    }

    /// The revision after these commands.
    fn cut_revision(commands: &[TableCommand]) -> u64 {
        let mut desired = DesiredState::new();
        for command in commands {
            if let Ok(edit) = desired.plan(command, false) {
                desired.note(edit);
            }
        }
        desired.revision()
    }
}
