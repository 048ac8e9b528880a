//! From what an author wrote to templates and conditions: expressions parsed, and checked against
//! what the step, or the run, may read.

use std::cell::OnceCell;

use serde_json::{Map, Value};

use super::{
    condition::{Condition, Reference},
    error::{Problems, item, member},
    expression::{Expression, Piece, Root, Segment, split},
    graph::{Graph, StepIndex},
    inputs::InputSchema,
    template::{Node, ReadStep, Template, string},
};
use crate::{
    ids::StepId,
    json::{CanonicalJson, JsonError},
};

/// Whose expressions are compiled.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reader {
    /// A step's, for each item of a list or once.
    Step { index: StepIndex, has_items: bool },
    /// The run's own: its outputs, when every step is done.
    Run,
    /// What is read when a run starts, when no step has put out anything.
    Start,
}

/// Compiles what one reader reads; what is wrong is reported.
pub(super) struct Compiler<'a> {
    reader: Reader,
    graph: &'a Graph,
    inputs: &'a InputSchema,
    problems: &'a mut Problems,
    /// For each step, whether this one needs it; worked out for the first expression that asks.
    needed: OnceCell<Vec<bool>>,
    reads: Vec<StepIndex>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        reader: Reader,
        graph: &'a Graph,
        inputs: &'a InputSchema,
        problems: &'a mut Problems,
    ) -> Self {
        Self { reader, graph, inputs, problems, needed: OnceCell::new(), reads: Vec::new() }
    }

    pub(super) fn template(mut self, path: &str, with: Option<&Value>) -> Template {
        let node = match with {
            None => Node::Fixed(CanonicalJson::empty_object()),
            Some(value) => self.node(path, value).unwrap_or_else(|e| {
                self.problems.push(path, e.to_string());
                Node::Fixed(CanonicalJson::empty_object())
            }),
        };
        self.reads.sort_unstable();
        self.reads.dedup();
        Template::new(node, self.reads)
    }

    /// Compile a `when`.
    pub(super) fn condition(mut self, path: &str, text: &str) -> Option<Condition> {
        let parsed = Condition::parse(text);
        let (program, references) =
            parsed.map_err(|message| self.problems.push(path, message)).ok()?;
        let mut reads: Vec<ReadStep> = vec![];
        for reference in references {
            let read = match reference {
                Reference::Input(name) => self.inputs.check_declared(&name).map(|()| None),
                Reference::Step(id) => {
                    let id = id.parse().map_err(|e: crate::ids::IdError| e.to_string());
                    id.and_then(|id| self.read_step(id)).map(Some)
                }
            };
            match read {
                Ok(read) => reads.extend(read),
                Err(message) => self.problems.push(path, message),
            }
        }
        reads.sort_by_key(|step| step.index);
        reads.dedup_by_key(|step| step.index);
        Some(Condition::new(text.to_owned(), program, reads))
    }

    fn node(&mut self, path: &str, value: &Value) -> Result<Node, JsonError> {
        match value {
            Value::String(text) if text.contains("${") => self.text(path, text),
            Value::Array(items) => self.list(path, items),
            Value::Object(members) => self.object(path, members),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                CanonicalJson::from_value(value).map(Node::Fixed)
            }
        }
    }

    fn list(&mut self, path: &str, items: &[Value]) -> Result<Node, JsonError> {
        let items = items.iter().enumerate();
        let nodes: Vec<Node> =
            items.map(|(i, v)| self.node(&item(path, i), v)).collect::<Result<_, _>>()?;
        let texts: Option<Vec<&str>> = nodes.iter().map(Node::fixed).collect();
        Ok(match texts {
            Some(texts) => Node::Fixed(CanonicalJson::trusted(format!("[{}]", texts.join(",")))),
            None => Node::List(nodes),
        })
    }

    fn object(&mut self, path: &str, members: &Map<String, Value>) -> Result<Node, JsonError> {
        let mut members: Vec<_> = members.iter().collect();
        // RFC 8785, section 3.2.3: by UTF-16 code units.
        members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        let members = members.into_iter();
        let nodes: Vec<(CanonicalJson, Node)> = members
            .map(|(name, v)| Ok((string(name)?, self.node(&member(path, name), v)?)))
            .collect::<Result<_, JsonError>>()?;
        let texts: Option<Vec<String>> =
            nodes.iter().map(|(name, node)| Some(format!("{name}:{}", node.fixed()?))).collect();
        Ok(match texts {
            Some(texts) => Node::Fixed(CanonicalJson::trusted(format!("{{{}}}", texts.join(",")))),
            None => Node::Object(nodes),
        })
    }

    fn text(&mut self, path: &str, text: &str) -> Result<Node, JsonError> {
        let (pieces, errors) = split(text);
        errors.into_iter().for_each(|message| self.problems.push(path, message));
        let pieces: Vec<Piece<ReadStep>> =
            pieces.into_iter().filter_map(|piece| self.piece(path, piece)).collect();
        Ok(match pieces.as_slice() {
            [] => Node::Fixed(string("")?),
            [Piece::Text(plain)] => Node::Fixed(string(plain)?),
            [Piece::Expression(whole)] => Node::Whole(whole.clone()),
            _ => Node::Text(pieces),
        })
    }

    fn piece(&mut self, path: &str, piece: Piece<StepId>) -> Option<Piece<ReadStep>> {
        let Expression { text, root, path: segments } = match piece {
            Piece::Text(plain) => return Some(Piece::Text(plain)),
            Piece::Expression(expression) => expression,
        };
        let root = match root {
            Root::Inputs => self.input(&segments).map(|()| Root::Inputs),
            Root::Outputs(step) => self.read_step(step).map(Root::Outputs),
            Root::Item => self.item().map(|()| Root::Item),
            Root::Index => self.item().map(|()| Root::Index),
        };
        match root {
            Ok(root) => Some(Piece::Expression(Expression { text, root, path: segments })),
            Err(message) => {
                self.problems.push(path, format!("{text}: {message}"));
                None
            }
        }
    }

    fn input(&self, path: &[Segment]) -> Result<(), String> {
        match path.first() {
            Some(Segment::Member(name)) => self.inputs.check_declared(name),
            Some(Segment::Item(_)) => Err("inputs are an object: name a member of it".into()),
            None => Ok(()),
        }
    }

    fn item(&self) -> Result<(), String> {
        match self.reader {
            Reader::Step { has_items: true, .. } => Ok(()),
            Reader::Step { has_items: false, .. } | Reader::Run | Reader::Start => {
                Err("only the `with` of a step with forEach has an item and an index".into())
            }
        }
    }

    fn read_step(&mut self, id: StepId) -> Result<ReadStep, String> {
        let Some(index) = self.graph.index_of(&id) else {
            let hint = self.graph.closest(id.as_str(), self.problems);
            return Err(format!("unknown step {id}{hint}"));
        };
        if let Reader::Start = self.reader {
            return Err("only inputs can be read here: no step has run yet".into());
        }
        if let Reader::Step { index: own, .. } = self.reader {
            if index == own {
                return Err("a step cannot read its own outputs".into());
            }
            if !self.needed.get_or_init(|| self.graph.needed_by(own))[index.get()] {
                return Err(format!(
                    "this step does not need {id}, so it may run before {id} has outputs: add \
                     {id} to its needs"
                ));
            }
        }
        self.reads.push(index);
        Ok(ReadStep { index, id })
    }
}
