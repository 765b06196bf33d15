"""Environments to learn from, as tasks: every installed Gymnasium id."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The tasks of this package."""
    return [
        Component(
            "task",
            "gymnasium",
            "corelab_envs.gymnasium_task:GymnasiumTask",
            "any installed Gymnasium environment, named by its id",
            provides="environment",
            pattern=r"(?!ALE/)(?:[\w.]+:)?(?:[\w-]+/)?[\w.-]+-v\d+",
            examples=("CartPole-v1", "Acrobot-v1", "Pendulum-v1"),
        ),
        Component(
            "task",
            "atari",
            "corelab_envs.atari:AtariTask",
            "an Atari 2600 game, seen and played as the literature does",
            provides="environment",
            pattern=r"ALE/\w+-v5",
            examples=("ALE/Pong-v5", "ALE/Breakout-v5"),
        ),
        Component(
            "task",
            "pettingzoo",
            "corelab_envs.pettingzoo_task:PettingZooTask",
            "any installed environment of several agents in PettingZoo's form, by its module",
            provides="environment",
            pattern=r"[\w.]+/\w+_v\d+",
            examples=("mpe2/simple_spread_v3", "sisl/multiwalker_v9", "classic/connect_four_v3"),
        ),
        Component(
            "task",
            "connect-four",
            "corelab_envs.connect_four:ConnectFour",
            "Connect Four: four in a row on 6 x 7 cells, stones fall",
            provides="game",
        ),
        Component(
            "task",
            "tic-tac-toe",
            "corelab_envs.tic_tac_toe:TicTacToe",
            "tic-tac-toe: three in a row on 3 x 3 squares",
            provides="game",
        ),
        Component(
            "task",
            "tptp",
            "corelab_envs.theorem.task:TPTPTask",
            "proving theorems: connection tableaux for TPTP problems, of one's own or corelab's",
            provides="environment",
            paper="Kaliszyk, Urban, Michalewski and Olšák 2018, Reinforcement Learning of Theorem "
            "Proving, arXiv:1805.07563",
        ),
        Component(
            "task",
            "theorems",
            "corelab_envs.theorem.task:TheoremsTask",
            "TPTP problems, of one's own or corelab's, each to be proved by a search",
            provides="theorems",
        ),
        Component(
            "task",
            "premises",
            "corelab_envs.theorem.task:PremisesTask",
            "which formulas a theorem can be proved from, among those of all TPTP problems",
            provides="premises",
        ),
        Component(
            "task",
            "metamath",
            "corelab_envs.metamath.task:MetamathTask",
            "proving theorems of a Metamath database, of one's own or corelab's, backwards",
            provides="environment",
        ),
        Component(
            "verb",
            "prove",
            "corelab_envs.theorem.verb:prove",
            "search for a proof of a TPTP problem",
        ),
        Component(
            "task",
            "pettingzoo-game",
            "corelab_envs.pettingzoo_game:PettingZooGame",
            "a turn-based game for two from PettingZoo, by its module; searched by copying it",
            provides="game",
            pattern=r"[\w.]+/\w+_v\d+",
            examples=("classic/connect_four_v3", "classic/tictactoe_v3", "classic/chess_v6"),
        ),
    ]
