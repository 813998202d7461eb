// Streams: valid and ready as in AXI-Stream. A beat moves on each clock edge at which both are high.
`default_nettype none

// Small first-in-first-out memory with a registered output. It never refuses: who writes counts its places (credits).
module bnn_fifo #(
  parameter W = 8,    // bits of a word
  parameter LOG = 4   // 2^LOG words
) (
  input  wire clk,
  input  wire rst,
  input  wire push,
  input  wire [W-1:0] in_data,
  output reg  out_valid,
  input  wire out_ready,
  output reg  [W-1:0] out_data
);
  reg [W-1:0] mem [0:(1<<LOG)-1];
  reg [LOG:0] wp, rp;
  wire some = wp != rp;
  wire move = !out_valid || out_ready;
  always @(posedge clk) if (push) mem[wp[LOG-1:0]] <= in_data;
  always @(posedge clk) if (move) out_data <= mem[rp[LOG-1:0]];
  always @(posedge clk) begin
    if (rst) begin
      wp <= 0; rp <= 0; out_valid <= 1'b0;
    end else begin
      if (push) wp <= wp + 1'b1;
      if (move) begin
        out_valid <= some;
        if (some) rp <= rp + 1'b1;
      end
    end
  end
endmodule

// Counts free places of a FIFO that lies behind a pipeline: `take` when something sets out, `give` when it has left.
module bnn_credit #(parameter LOG = 4) (
  input  wire clk,
  input  wire rst,
  input  wire take,
  input  wire give,
  output reg  ok
);
  reg [LOG:0] n;
  wire [LOG:0] next = n + {{LOG{1'b0}}, give} - {{LOG{1'b0}}, take};
  always @(posedge clk) begin
    if (rst) begin
      n <= 1 << LOG; ok <= 1'b1;
    end else begin
      n <= next; ok <= next != 0;
    end
  end
endmodule

// R words of A bits become one of R*A, the first in the lowest bits.
module bnn_widen #(parameter A = 8, parameter R = 2) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [A-1:0] in_data,
  output reg  out_valid,
  input  wire out_ready,
  output reg  [R*A-1:0] out_data
);
  localparam CW = R > 1 ? $clog2(R) : 1;
  /* verilator lint_off WIDTHTRUNC */
  localparam [CW-1:0] LAST = R - 1;
  /* verilator lint_on WIDTHTRUNC */
  reg [CW-1:0] n;
  assign in_ready = !out_valid || out_ready;
  always @(posedge clk) if (in_valid && in_ready) out_data <= {in_data, out_data[R*A-1:A]};
  always @(posedge clk) begin
    if (rst) begin
      n <= 0; out_valid <= 1'b0;
    end else begin
      if (out_ready) out_valid <= 1'b0;
      if (in_valid && in_ready) begin
        n <= n == LAST ? {CW{1'b0}} : n + 1'b1;
        if (n == LAST) out_valid <= 1'b1;
      end
    end
  end
endmodule

// One word of R*A bits becomes R words of A, the lowest bits first.
module bnn_narrow #(parameter A = 8, parameter R = 2) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [R*A-1:0] in_data,
  output wire out_valid,
  input  wire out_ready,
  output wire [A-1:0] out_data
);
  localparam CW = $clog2(R + 1);
  reg [R*A-1:0] sh;
  reg [CW-1:0] left;
  assign out_valid = left != 0;
  assign out_data = sh[A-1:0];
  assign in_ready = left == 0 || (left == 1 && out_ready);
  always @(posedge clk) begin
    if (in_valid && in_ready) sh <= in_data;
    else if (out_ready) sh <= sh >> A;
  end
  always @(posedge clk) begin
    if (rst) left <= 0;
    else if (in_valid && in_ready) left <= R;
    else if (out_valid && out_ready) left <= left - 1'b1;
  end
endmodule
`default_nettype wire
