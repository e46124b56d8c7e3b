//! The page in the terminal.

use lvs_std::control::api::{PastEvent, WatchedServerRow};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::model::{Model, Rates};

/// Draws everything anew; of what does not fit, the end is left out.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, colours: bool) {
    let paint = Paint { colours };
    let below = below(model, &paint);
    let most = frame.area().height / 2;
    let [head, middle, foot, keys] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(3),
        Constraint::Length(u16::try_from(below.len()).unwrap_or(u16::MAX).min(most)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(top(model, &paint)), head);
    servers(frame, middle, model, &paint);
    frame.render_widget(Paragraph::new(below), foot);
    frame.render_widget(Paragraph::new(last(model, &paint)), keys);
}

/// Colours, where they are wanted. Nothing is told by a colour alone.
struct Paint {
    colours: bool,
}

impl Paint {
    fn in_colour(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(&self) -> Style {
        self.in_colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn good(&self) -> Style {
        self.in_colour(Color::Green)
    }

    fn faint(&self) -> Style {
        self.in_colour(Color::DarkGray)
    }
}

fn top(model: &Model, paint: &Paint) -> Vec<Line<'static>> {
    let of = &model.overview;
    let problems = of.health.problems.len();
    let state = match (&model.trouble, problems, of.health.ready) {
        (Some(why), ..) => Span::styled(why.clone(), paint.bad()),
        (None, 0, true) => Span::styled("well", paint.good()),
        (None, 0, false) => Span::styled("checks have not all answered", paint.faint()),
        (None, count, _) => Span::styled(format!("{count} problems"), paint.bad()),
    };
    let share = if of.capacity == 0 { 0.0 } else { of.connections as f64 / of.capacity as f64 };
    let Rates { connections, packets, bits } = model.rates;
    let busy = |share: &Option<f64>| share.map_or("?".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let busy: Vec<_> = model.busy.iter().map(busy).collect();
    vec![
        Line::from(vec![Span::styled("director  ", Style::new().add_modifier(Modifier::BOLD)), state]),
        Line::from(format!(
            "connections {} of {} {} {:.1} %   workers busy {}",
            of.connections,
            of.capacity,
            bar(share, 20),
            share * 100.0,
            busy.join(" "),
        )),
        Line::from(format!(
            "new {}/s   packets {}/s   {}bit/s",
            short(connections),
            short(packets),
            short(bits),
        )),
    ]
}

fn servers(frame: &mut Frame<'_>, area: Rect, model: &Model, paint: &Paint) {
    let heads = ["server", "state", "weight", "active", "", "inactive", "new/s", "packets/s", "bit/s"];
    let (mut rows, mut marked) = (Vec::new(), None);
    for (service, servers) in model.services() {
        let title = Line::from(vec![
            Span::styled(service.name.clone(), Style::new().add_modifier(Modifier::BOLD)),
            Span::styled(format!("  {}", service.scheduler), paint.faint()),
        ]);
        rows.push(Row::new([title]));
        let most = service.servers.iter().map(|of| of.active).max().unwrap_or(0);
        for server in servers {
            let name = (&service.name, server.address);
            if model.marked.as_ref().is_some_and(|(service, address)| (service, *address) == name) {
                marked = Some(rows.len());
            }
            rows.push(row(server, most, paint));
        }
    }
    let widths = [
        Constraint::Min(24),
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(8),
    ];
    let head = Row::new(heads).style(paint.faint().add_modifier(Modifier::UNDERLINED));
    let table = Table::new(rows, widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(marked);
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(of: &WatchedServerRow, most: u32, paint: &Paint) -> Row<'static> {
    let rates = of.rates;
    let (packets, bytes) = (rates.in_packets + rates.out_packets, rates.in_bytes + rates.out_bytes);
    let share = if most == 0 { 0.0 } else { f64::from(of.active) / f64::from(most) };
    let weight = match of.effective_weight {
        Some(weight) if weight != of.weight => format!("{weight} of {}", of.weight),
        Some(_) | None => of.weight.to_string(),
    };
    Row::new([
        Line::from(format!("  {}", of.address)),
        Line::from(state(of, paint)),
        Line::from(weight).right_aligned(),
        Line::from(of.active.to_string()).right_aligned(),
        Line::from(bar(share, 10)),
        Line::from(of.inactive.to_string()).right_aligned(),
        Line::from(short(rates.connections as f64)).right_aligned(),
        Line::from(short(packets as f64)).right_aligned(),
        Line::from(short(8.0 * bytes as f64)).right_aligned(),
    ])
}

fn state(of: &WatchedServerRow, paint: &Paint) -> Span<'static> {
    match of.effective_weight {
        None => Span::styled("down", paint.bad()),
        Some(_) if of.draining => Span::styled("draining", paint.in_colour(Color::Yellow)),
        Some(weight) if weight > 0 => Span::styled("in use", paint.good()),
        Some(_) => Span::styled("no new clients", paint.faint()),
    }
}

/// Health, drops and events, of each the first lines.
fn below(model: &Model, paint: &Paint) -> Vec<Line<'static>> {
    let of = &model.overview;
    let mut lines = vec![title("health", paint)];
    let problems = of.health.problems.iter();
    lines.extend(problems.map(|problem| {
        let text = format!("  {}: {}, for {:.0} s", problem.part, problem.why, problem.since);
        Line::styled(text, paint.bad())
    }));
    let down = of.health.probes.iter().filter(|probe| probe.state != "up");
    lines.extend(down.take(MOST).map(|probe| {
        let why = probe.why.as_deref().unwrap_or_default();
        Line::styled(format!("  {} {}: {why}", probe.state, probe.probe), paint.bad())
    }));
    let up = of.health.probes.iter().filter(|probe| probe.state == "up").count();
    lines.push(Line::from(format!("  {up} of {} checks find their servers well", of.health.probes.len())));
    if !model.drops.is_empty() {
        lines.push(title("dropped packets", paint));
        let mut drops: Vec<_> = model.drops.iter().collect();
        drops.sort_by(|one, other| other.2.total_cmp(&one.2).then(other.1.cmp(&one.1)));
        let rows = drops.into_iter().take(MOST);
        lines.extend(
            rows.map(|(why, count, rate)| Line::from(format!("  {count} {why}, {}/s", short(*rate)))),
        );
    }
    if !of.events.is_empty() {
        lines.push(title("what happened last", paint));
        lines.extend(of.events.iter().take(MOST).map(|event| Line::from(format!("  {}", told(event)))));
    }
    lines
}

fn title(text: &'static str, paint: &Paint) -> Line<'static> {
    Line::styled(text, paint.faint().add_modifier(Modifier::UNDERLINED))
}

fn told(event: &PastEvent) -> String {
    let what = serde_json::to_value(&event.event).unwrap_or_default();
    let fields = what.as_object().into_iter().flatten();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words: Vec<_> = fields.filter(|(_, value)| !value.is_null()).map(|(_, value)| text(value)).collect();
    format!("{:.0} s ago: {}", event.ago, words.join(" "))
}

fn last(model: &Model, paint: &Paint) -> Line<'static> {
    if model.typing {
        return Line::from(format!("filter: {}_   Enter keeps it, Esc shows everything", model.filter));
    }
    let filter = if model.filter.is_empty() { String::new() } else { format!(" ({})", model.filter) };
    let keys = format!(
        "q quit   s sort ({})   / filter{filter}   arrows mark   d drain   u use again",
        model.sort.name()
    );
    match &model.message {
        Some(message) => {
            Line::from(vec![Span::from(format!("{message}   ")), Span::styled(keys, paint.faint())])
        }
        None => Line::styled(keys, paint.faint()),
    }
}

/// A bar of `width` letters for a share of one.
fn bar(share: f64, width: usize) -> String {
    let filled = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    "█".repeat(filled) + &"·".repeat(width - filled.min(width))
}

/// A number in few letters.
fn short(value: f64) -> String {
    for (size, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= size * 10.0 {
            return format!("{:.0}{unit}", value / size);
        }
    }
    format!("{value:.0}")
}

/// Lines of a kind below the table.
const MOST: usize = 3;
