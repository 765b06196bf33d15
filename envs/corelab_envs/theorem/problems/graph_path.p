% Domain   : a path in a graph of six nodes
% Status   : Theorem
fof(edge_ab, axiom, edge(a, b)).
fof(edge_bc, axiom, edge(b, c)).
fof(edge_cd, axiom, edge(c, d)).
fof(edge_de, axiom, edge(d, e)).
fof(edge_ef, axiom, edge(e, f)).
fof(edge_ca, axiom, edge(c, a)).
fof(edge_ec, axiom, edge(e, c)).
fof(step, axiom, ! [X, Y] : (edge(X, Y) => path(X, Y))).
fof(more, axiom, ! [X, Y, Z] : ((edge(X, Y) & path(Y, Z)) => path(X, Z))).
fof(goal, conjecture, path(a, f)).
