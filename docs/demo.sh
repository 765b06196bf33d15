#!/bin/sh
# Two runs that a newcomer can watch: a policy that learns to balance a pole, and a VAE that learns
# to draw. About two minutes on two cores. `corelab` must be on the PATH (`make demo` sees to it).
set -e
say() { printf '\n\033[1m%s\033[0m\n' "$1" >&2; }

say "1. PPO learns CartPole-v1: a return of 500 is a pole that never falls"
set -x
pole=$(corelab train ppo --task CartPole-v1 --seed 1 --run.target "eval/return >= 490")
corelab eval "$pole" -n 100
corelab sample "$pole" -o "$pole/cartpole.gif" >/dev/null
{ set +x; } 2>/dev/null

if [ -d /usr/share/datasets/fashion-mnist ]; then data=fashion-mnist; else data=digits; fi
say "2. A variational autoencoder learns to draw from the images of $data"
set -x
vae=$(corelab train vae --task $data --seed 1 --steps 400000 --run.max-seconds 90)
corelab sample "$vae" -n 64 -o "$vae/samples.png" >/dev/null
corelab runs
{ set +x; } 2>/dev/null

say "What to look at next"
cat >&2 <<END
  $pole/cartpole.gif   the pole, balanced by the policy that was just learned
  $vae/samples.png     images that the VAE makes up
  $pole/run.json       everything needed to run it again
  tensorboard --logdir runs      curves and pictures of both
  corelab train ppo --help       every option, and what it means
  docs/tutorials/first-run.md    the same, step by step
END
