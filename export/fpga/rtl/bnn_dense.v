// A dense layer: two vectors find place in front of it, one is read NF times while the other one arrives.
`default_nettype none
module bnn_dense #(
  parameter PE = 4,
  parameter SIMD = 8,
  parameter XB = 1,
  parameter SF = 8,
  parameter NF = 4,
  parameter AW = 8,
  parameter THRESH = 1,
  parameter LOG = 4,
  parameter WK = 1,
  parameter WFILE = "",
  parameter TFILE = ""
) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [SIMD*XB-1:0] in_data,
  output wire out_valid,
  input  wire out_ready,
  output wire [PE*(THRESH ? 1 : AW)-1:0] out_data
);
  localparam RW = $clog2(2*SF);
  localparam SW = SF > 1 ? $clog2(SF) : 1;
  localparam NW = NF > 1 ? $clog2(NF) : 1;
  localparam DW = NF*SF > 1 ? $clog2(NF*SF) : 1;
  /* verilator lint_off WIDTHTRUNC */
  localparam [RW-1:0] LOWER_END = SF - 1, UPPER_END = 2*SF - 1;
  localparam [SW-1:0] LAST_WORD = SF - 1;
  localparam [NW-1:0] LAST_GROUP = NF - 1;
  /* verilator lint_on WIDTHTRUNC */
  (* no_rw_check *)  // one half is written while the other one is read
  reg [SIMD*XB-1:0] mem [0:2*SF-1];
  reg [SIMD*XB-1:0] x;
  reg [1:0] full;                     // whole vectors in the memory
  // writing
  reg [RW-1:0] wp;
  assign in_ready = !full[1];
  wire put = in_valid && in_ready;
  wire filled = put && (wp == LOWER_END || wp == UPPER_END);
  always @(posedge clk) if (put) mem[wp] <= in_data;
  always @(posedge clk) begin
    if (rst) wp <= 0;
    else if (put) wp <= wp == UPPER_END ? {RW{1'b0}} : wp + 1'b1;
  end
  // reading
  wire credit;
  reg [RW-1:0] rp;
  reg [SW-1:0] sf;
  reg [NW-1:0] nf;
  reg [DW-1:0] waddr;
  reg upper;                          // which half is read
  wire first = sf == 0;
  wire last = sf == LAST_WORD;
  wire end_vector = last && nf == LAST_GROUP;
  wire go = !first || (full != 0 && credit);
  always @(posedge clk) x <= mem[rp];
  always @(posedge clk) begin
    if (rst) begin
      rp <= 0; sf <= 0; nf <= 0; waddr <= 0; upper <= 1'b0; full <= 0;
    end else begin
      full <= full + {1'b0, filled} - {1'b0, go && end_vector};
      if (go) begin
        sf <= last ? {SW{1'b0}} : sf + 1'b1;
        waddr <= end_vector ? {DW{1'b0}} : waddr + 1'b1;
        if (last) nf <= end_vector ? {NW{1'b0}} : nf + 1'b1;
        if (end_vector) upper <= !upper;
        rp <= !last ? rp + 1'b1 : (upper ^ end_vector) ? SF : {RW{1'b0}};
      end
    end
  end
  bnn_mac #(.PE(PE), .SIMD(SIMD), .XB(XB), .SF(SF), .NF(NF), .AW(AW), .THRESH(THRESH), .LOG(LOG), .WK(WK), .WFILE(WFILE),
            .TFILE(TFILE)) mac (
    .clk(clk), .rst(rst), .set_out(go && first), .issue(go), .issue_first(first), .issue_last(last), .issue_zero(1'b0), .x(x), .waddr(waddr),
    .credit(credit), .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
endmodule
`default_nettype wire
