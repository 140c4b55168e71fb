// Called by qakhunt/testing/microsoft_parser.py, once Microsoft's own scripts are loaded.
var qakhuntGlobals = {};
function qakhuntLoad(product, tables) {
  var symbols = Kusto.Language.Symbols;
  var made = [];
  for (var name in tables) {
    made.push(new symbols.TableSymbol.$ctor7(name, tables[name], null));
  }
  var database = new symbols.DatabaseSymbol.$ctor1("qakhunt", made, false);
  qakhuntGlobals[product] = Kusto.Language.GlobalState.Default.WithDatabase(database);
  return made.length;
}
function qakhuntCheck(product, text) {
  var code = Kusto.Language.KustoCode.ParseAndAnalyze(text, qakhuntGlobals[product]);
  var found = code.GetDiagnostics(), diagnostics = [], columns = null;
  for (var i = 0; i < found.Count; i++) {
    var one = System.Array.getItem(found, i, Kusto.Language.Diagnostic);
    diagnostics.push([one.Code, one.Severity, one.Message, one.Start, one.Length]);
  }
  if (code.ResultType && code.ResultType.Columns) {
    columns = [];
    for (var j = 0; j < code.ResultType.Columns.Count; j++) {
      var column = System.Array.getItem(
        code.ResultType.Columns, j, Kusto.Language.Symbols.ColumnSymbol);
      columns.push([column.Name, column.Type.Name]);
    }
  }
  return JSON.stringify({diagnostics: diagnostics, columns: columns});
}
