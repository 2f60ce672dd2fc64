//! The flags of the plan: bits, target, granularity, single layers, recipe.

use clap::{Args, ValueEnum};

use super::arguments::whole;
use crate::error::{Error, Result};
use crate::plan::{Activations, Container, FloatActivations, LayerBits, Policy, Target};
use crate::recipes::{self, RECIPES, Recipe, STAGES, Stage};

#[derive(Args)]
pub(super) struct PlanArguments {
    /// Bits of weights and activations, 2 to 8 [default: 8]
    #[arg(long, value_name = "N", conflicts_with = "precision", value_parser = whole(2..=8u32))]
    bits: Option<u32>,
    /// Bits of weights and of activations, such as w4a8
    #[arg(long, value_name = "wXaY", value_parser = precision)]
    precision: Option<(u32, u32)>,
    /// Bits of activations, where they differ from --bits or beside --auto-bits
    #[arg(long, value_name = "N", conflicts_with = "precision", value_parser = whole(2..=8u32))]
    activation_bits: Option<u32>,
    /// Target runtime
    #[arg(long, default_value = "onnx")]
    target: Target,
    /// Storage type of weights of 4 bits and below: int8 runs fast, int4 is small, auto follows the target
    #[arg(long, default_value = "auto")]
    container: Container,
    /// Use at most 7 bits for weights, for x86 processors without VNNI, whose kernels saturate at 8
    #[arg(long)]
    reduce_range: bool,
    /// Activations to quantize: auto leaves those float whose range would rest on a guess of the model's inputs
    #[arg(long, value_enum, default_value_t = Activations::Auto)]
    pub(super) activations: Activations,
    /// Quantize the operands of residual sums at the bits of the layers that read them, instead of 8
    #[arg(long)]
    shared_shortcuts: bool,
    /// Amount of training: none with fast, minutes with balanced, several times that with max; auto is balanced where the
    /// result of fast is not good, and fast at 8 bits [default: auto for quantize, fast for sensitivity]
    #[arg(long, value_name = "EFFORT", conflicts_with = "recipe")]
    effort: Option<Effort>,
    /// Recipe by name [default: the best one for --effort]
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Training stages, in order [default: those of the recipe]
    #[arg(long, value_name = "NAME[,NAME...]", value_delimiter = ',', long_help = stages())]
    stages: Vec<String>,
    /// Use one scale per output channel of a weight (the default)
    #[arg(long, conflicts_with = "per_tensor")]
    per_channel: bool,
    /// Use one scale per weight
    #[arg(long)]
    per_tensor: bool,
    /// Use weights with zero point 0 (the default)
    #[arg(long, conflicts_with = "affine")]
    symmetric: bool,
    /// Use weights with a zero point per scale
    #[arg(long, visible_alias = "asymmetric")]
    affine: bool,
    /// Leave a node float, by name or by a regular expression that matches the whole name (repeatable)
    #[arg(long, value_name = "NAME|REGEX", visible_alias = "nodes-to-exclude")]
    exclude: Vec<String>,
    /// Leave all nodes of an operator float (repeatable)
    #[arg(long, value_name = "OP", visible_alias = "op-types-to-exclude")]
    exclude_op: Vec<String>,
    /// Bits of one layer: N or wXaY for weight and input, wX or aY for one of them (repeatable)
    #[arg(long, value_name = "NAME=N|wX|aY", value_parser = layer_bits)]
    layer_bits: Vec<(String, LayerBits)>,
    /// Use the requested bits for all weights and inputs: without it, the first and the last layer keep 8 bits, and so do
    /// the weights of depthwise convolutions and the smallest ones
    #[arg(long)]
    all_layers: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Effort {
    /// Trains only where the result without training is not good; never at 8 bits.
    Auto,
    /// Analytic, no training.
    Fast,
    /// Trains on synthetic images for minutes.
    Balanced,
    /// Trains on more images for more steps.
    Max,
}

impl PlanArguments {
    /// Returns the bits of weights and of activations.
    pub(super) fn bits(&self) -> (u32, u32) {
        self.precision.unwrap_or_else(|| {
            let bits = self.bits.unwrap_or(8);
            (bits, self.activation_bits.unwrap_or(bits))
        })
    }

    /// Returns the named recipe, else the best one for the effort, which is `default` if not given.
    ///
    /// # Errors
    /// For an unknown name.
    pub(super) fn recipe(&self, default: Effort) -> Result<&'static Recipe> {
        match (&self.recipe, self.effort.unwrap_or(default)) {
            (Some(name), _) => recipes::find(name),
            (None, Effort::Auto) if !self.has_low_bits() => Ok(&RECIPES[0]),
            (None, Effort::Fast) => Ok(&RECIPES[0]),
            (None, Effort::Auto | Effort::Balanced) => recipes::find("cascade"),
            (None, Effort::Max) => recipes::find("cascade-max"),
        }
    }

    /// Returns the default effort where training is asked for or not.
    pub(super) fn worthwhile(&self, is_trained: bool) -> Effort {
        if is_trained || !self.stages.is_empty() { Effort::Balanced } else { Effort::Auto }
    }

    /// Returns whether training depends on the result without it.
    pub(super) fn trains_where_needed(&self, default: Effort) -> bool {
        self.recipe.is_none() && self.stages.is_empty() && matches!(self.effort.unwrap_or(default), Effort::Auto)
    }

    /// Returns whether fewer than 8 bits are asked for anywhere: at 8 bits, training gains little.
    fn has_low_bits(&self) -> bool {
        let (weight_bits, activation_bits) = self.bits();
        let asks =
            |bits: &LayerBits| bits.weight.is_some_and(|bits| bits < 8) || bits.input.is_some_and(|bits| bits < 8);
        weight_bits < 8 || activation_bits < 8 || self.layer_bits.iter().any(|(_, bits)| asks(bits))
    }

    /// Returns whether the program chooses how to quantize: neither a recipe nor stages nor an effort but auto are given.
    pub(super) fn leaves_recipe_open(&self) -> bool {
        self.recipe.is_none() && matches!(self.effort, None | Some(Effort::Auto)) && self.stages.is_empty()
    }

    /// Returns the named training stages, else those of `recipe`.
    ///
    /// # Errors
    /// For an unknown name, or where the recipe does not train.
    pub(super) fn stages(&self, recipe: &Recipe) -> Result<Vec<&'static Stage>> {
        if self.stages.is_empty() {
            return Ok(recipe.stages.to_vec());
        }
        if recipe.stages.is_empty() {
            return Err(Error::Usage(format!("--stages: recipe \"{}\" does not train", recipe.name)));
        }
        recipes::find_stages(&self.stages)
    }

    /// Returns the quantization policy.
    pub(super) fn policy(&self) -> Policy {
        let (weight_bits, activation_bits) = self.bits();
        Policy {
            target: self.target,
            weight_bits,
            activation_bits,
            per_channel: !self.per_tensor,
            symmetric: !self.affine,
            all_layers: self.all_layers,
            exclude: self.exclude.clone(),
            exclude_ops: self.exclude_op.clone(),
            layer_bits: self.layer_bits.clone(),
            container: self.container,
            reduce_range: self.reduce_range,
            shared_shortcuts: self.shared_shortcuts,
            // Depends on the model, which is not read yet.
            float_activations: FloatActivations::None,
        }
    }
}

/// Returns the help of `--stages`.
fn stages() -> String {
    let rows: Vec<String> = STAGES.iter().map(|stage| format!("  {:<12} {}", stage.name, stage.summary)).collect();
    format!("Training stages, in order [default: those of the recipe]:\n{}", rows.join("\n"))
}

fn width(text: &str) -> Option<u32> {
    text.parse().ok().filter(|bits| (2..=8).contains(bits))
}

fn precision(text: &str) -> Result<(u32, u32), String> {
    let parts = text.strip_prefix('w').and_then(|t| t.split_once('a'));
    let bits = parts.and_then(|(weight, activation)| Some((width(weight)?, width(activation)?)));
    bits.ok_or_else(|| "expected wXaY with bits from 2 to 8, such as w4a8".to_owned())
}

fn layer_bits(text: &str) -> Result<(String, LayerBits), String> {
    let refused = || "expected NAME=N, NAME=wX, NAME=aY or NAME=wXaY with bits from 2 to 8".to_owned();
    let (name, given) = text.rsplit_once('=').ok_or_else(refused)?;
    let bits = match (given.strip_prefix('w'), given.strip_prefix('a')) {
        (Some(weight), _) => width(weight).map(LayerBits::weight).or_else(|| {
            let (weight, input) = precision(given).ok()?;
            Some(LayerBits { weight: Some(weight), input: Some(input) })
        }),
        (_, Some(input)) => width(input).map(|input| LayerBits { weight: None, input: Some(input) }),
        (None, None) => width(given).map(LayerBits::both),
    };
    Ok((name.to_owned(), bits.ok_or_else(refused)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_a_layer_are_read_for_weight_and_input_together_and_apart() {
        let given = |weight, input| Ok(LayerBits { weight, input });
        let cases = [
            ("3", given(Some(3), Some(3))),
            ("w3", given(Some(3), None)),
            ("a5", given(None, Some(5))),
            ("w2a8", given(Some(2), Some(8))),
        ];
        let mut wrong = Vec::new();
        for (text, expected) in cases {
            let found = layer_bits(&format!("/conv=x={text}"));
            if found != expected.clone().map(|bits: LayerBits| ("/conv=x".to_owned(), bits)) {
                wrong.push((text.to_owned(), format!("{found:?}")));
            }
        }
        for bad in ["conv", "conv=", "conv=w", "conv=1", "conv=w9", "conv=a1", "conv=w3a", "conv=w3a9", "conv=3.5"] {
            if let Ok(found) = layer_bits(bad) {
                wrong.push((bad.to_owned(), format!("{found:?}")));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
